"""Writes the items of the gates as token ids of one model: text through its tokenizer, and ordinary tokens."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

# How tokenizers mark a token that begins with a space: byte-level BPE, and sentencepiece.
SPACES = ("\u0120", "\u2581")
# With fewer whole words than this, gates take any ordinary token.
MIN_WORDS = 64
# Text is cut into tokens behind this, as it will stand behind other text.
BEFORE = "."

TokenIds = tuple[int, ...]


class Writer:
    """One model's tokens. Without a tokenizer it knows ordinary tokens only."""

    def __init__(
        self,
        tokenizer: Any,
        vocab_size: int,
        special: Collection[int] = (),
        begin: int | None = None,
        why_not: str = "",
    ):
        """tokenizer: of transformers, or None; vocab_size: rows of the embedding.

        special: ids that no text becomes, besides those that the tokenizer names; begin: id that begins a sequence
        where there is no tokenizer to say so; why_not: why there is no tokenizer.
        """
        self._tokenizer, self._vocab_size, self._why_not = tokenizer, vocab_size, why_not
        self._special = {*special}
        self._begin = begin
        self._pieces: dict[str, TokenIds] = {}

    @cached_property
    def beginning(self) -> TokenIds:
        """What stands before every text: nothing, or a token that begins a sequence."""
        if self._tokenizer is None:
            return () if self._begin is None else (self._begin,)
        plain, whole = self.ids(BEFORE), tuple(self._tokenizer(BEFORE).input_ids)
        starts = [at for at in range(len(whole) - len(plain) + 1) if whole[at : at + len(plain)] == plain]
        return whole[: starts[0]] if starts else ()

    @cached_property
    def ordinary(self) -> list[int]:
        """Tokens of text: whole words of ASCII letters, or, where there are few, all but the special ones."""
        if self._tokenizer is None:
            return [token for token in range(self._vocab_size) if token not in self._special]
        added = {token for token, one in self._tokenizer.added_tokens_decoder.items() if one.special}
        special = self._special | added | {*self._tokenizer.all_special_ids}
        tokens = [token for token in range(min(self._vocab_size, len(self._tokenizer))) if token not in special]
        spelled = self._tokenizer.convert_ids_to_tokens(tokens)
        words = [token for token, text in zip(tokens, spelled, strict=True) if _is_word(text)]
        return words if len(words) >= MIN_WORDS else tokens

    def why_not(self, *texts: str) -> str | None:
        """Why these texts cannot be written; None if they can."""
        if self._tokenizer is None:
            return self._why_not or "there is no tokenizer"
        for text in texts:
            ids = self.ids(text)
            read = self._tokenizer.decode(ids, skip_special_tokens=False)
            unknown = self._tokenizer.unk_token_id
            if (unknown is not None and unknown in ids) or _letters(read) != _letters(text):
                return f"the tokenizer cannot write {text!a}"
        return None

    def ids(self, text: str) -> TokenIds:
        """A text as it stands by itself, without special tokens."""
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def after(self, text: str, before: str = BEFORE) -> TokenIds:
        """The tokens of a text that stands behind `before`: the whole text's, less those of what is before."""
        key = f"{before}\n{text}"
        if key not in self._pieces:
            self._pieces[key] = self.ids(before + text)[len(self.ids(before)) :]
        return self._pieces[key]

    def joined(self, texts: Sequence[str]) -> TokenIds:
        """Sentences in a row, after the beginning; every one but the first needs a space in front."""
        first, *rest = texts
        return self.beginning + self.ids(first) + tuple(token for text in rest for token in self.after(text))


def _is_word(token: Any) -> bool:
    return (
        isinstance(token, str)
        and token[:1] in SPACES
        and len(token) > 2
        and token[1:].isascii()
        and token[1:].isalpha()
    )


def _letters(text: str) -> str:
    """Without spaces and case, which some tokenizers do not keep."""
    return "".join(text.split()).casefold()
