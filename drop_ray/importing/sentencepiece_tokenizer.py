"""Converts a sentencepiece BPE model to a tokenizer that transformers loads without remote code.

The conversion is checked: the tokenizer has to give the ids that sentencepiece gives.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from drop_ray.errors import UserError
from drop_ray.models.transformers_private import merges_of
from drop_ray.reading.json_text import read_json_object

# The character that sentencepiece writes for a space.
SPACE = "▁"
# Fields of tokenizer_config.json that say how a text becomes tokens. The others belong to the class that is replaced.
KEPT_FIELDS = ("add_bos_token", "add_eos_token", "model_max_length", "padding_side", "chat_template")
# Texts on which conversions of tokenizers differ: spaces, line ends, characters outside the vocabulary, digits.
PROBES = (
    *("", " ", "  ", "a", " a", "   a", "a ", "a   b", "\n", "\n\n a", "\ta\r\n", f"a{SPACE}b", f"{SPACE} a"),
    *("1234567 3.14", "naïve café", "e\u0301", "北京的 城市。", "🦙 𝄞", "\u200b\ufeff", "<0x0A>"),
    *("def f(x):\n    return x", "aaaaaaa", "x" * 40, " " * 40, "The quick brown fox jumps. " * 4),
)

Piece = sentencepiece_model_pb2.ModelProto.SentencePiece


def convert_tokenizer(folder: Path, location: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder with tokenizer.model and tokenizer_config.json. `location` is its name in messages.

    A special token in a text becomes its id, as in every tokenizer of transformers. All else has the ids that
    sentencepiece gives, with one exception: a text that is one user-defined symbol and nothing more gets no space in
    front. UserError if the files lack something that is needed, or if the ids differ on a probe or on a piece of the
    vocabulary.
    """
    model = _read_model(folder / "tokenizer.model", location)
    config = _read_config(folder, location, len(model.pieces))
    special = {name: _special_token(config, name, default) for name, default in _DEFAULT_TOKENS.items()}
    missing = [str(token) for token in special.values() if token and str(token) not in {p.piece for p in model.pieces}]
    if missing:
        raise UserError(f"{location}/tokenizer_config.json names {missing[0]}, which tokenizer.model does not have")
    backend = _backend(model)
    _check(backend, SentencePieceProcessor(model_proto=model.SerializeToString()), model, location)
    kept = {field: config[field] for field in KEPT_FIELDS if field in config}
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special, **kept)


# The defaults of Baichuan's tokenizer class.
_DEFAULT_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": None}


def _read_model(path: Path, location: str) -> Any:
    if not path.is_file():
        raise UserError(f"{location} has no tokenizer.model; download the model again, with all its files")
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf raises an error of its own, which is in no public module
        raise UserError(f"{location}/tokenizer.model is no sentencepiece model ({error}); download it again") from error
    if model.trainer_spec.model_type != sentencepiece_model_pb2.TrainerSpec.BPE:
        raise UserError(f"{location}/tokenizer.model is not a BPE model of sentencepiece; no other can be converted")
    return model


def _read_config(folder: Path, location: str, num_pieces: int) -> dict[str, Any]:
    """tokenizer_config.json, if it says what is needed and no token lies outside the sentencepiece model."""
    config = _read_object(folder / "tokenizer_config.json", location)
    for field in ("add_bos_token", "add_eos_token"):
        if not isinstance(config.get(field), bool):
            raise UserError(
                f"{location}/tokenizer_config.json does not say `{field}`: whether the model was trained with that "
                "token around a text; add it (the published Baichuan models have false)"
            )
    try:
        ids = [int(token_id) for token_id in _read_object(folder / "added_tokens.json", location).values()]
        ids += [int(token_id) for token_id in config.get("added_tokens_decoder", {})]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{location} has added tokens whose ids are no integers ({error}); download it again"
        ) from error
    if max(ids, default=0) >= num_pieces:
        raise UserError(f"{location} adds tokens to the {num_pieces} of tokenizer.model, which cannot be converted")
    return config


def _read_object(path: Path, location: str) -> dict[str, Any]:
    """A file of settings, empty if there is none."""
    what = f"{location}/{path.name}"
    return read_json_object(path, what) if path.exists() else {}


def _special_token(config: Mapping[str, Any], name: str, default: str | None) -> AddedToken | None:
    value = config.get(name, default)
    if value is None:
        return None
    fields = value if isinstance(value, dict) else {"content": value}
    shape = {key: bool(fields.get(key)) for key in ("lstrip", "rstrip", "single_word")}
    # Special tokens are found before the text is normalized; each part between them is a text of its own.
    return AddedToken(fields["content"], normalized=False, special=True, **shape)


def _backend(model: Any) -> Tokenizer:
    vocabulary = {piece.piece: token_id for token_id, piece in enumerate(model.pieces)}
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == Piece.NORMAL}
    # Control tokens, bytes and user-defined symbols are neither parts nor results of a merge.
    merges = merges_of(vocabulary, scores, vocabulary.keys() - scores.keys())
    # A symbol with a plain space in it is never found, because spaces have become SPACE before.
    symbols = [p.piece for p in model.pieces if p.type == Piece.USER_DEFINED and " " not in p.piece]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=next(piece.piece for piece in model.pieces if piece.type == Piece.UNKNOWN),
            fuse_unk=True,
            byte_fallback=model.trainer_spec.byte_fallback,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(list(_normalizers(model.normalizer_spec, symbols)))
    tokenizer.decoder = decoders.Sequence(list(_decoders(model.normalizer_spec)))
    tokenizer.add_tokens([AddedToken(symbol, normalized=True, special=False) for symbol in symbols])
    return tokenizer


def _normalizers(spec: Any, symbols: list[str]) -> Iterator[Any]:
    """The steps of sentencepiece's own normalizer, in its order."""
    if spec.precompiled_charsmap:
        yield normalizers.Precompiled(spec.precompiled_charsmap)
    if spec.remove_extra_whitespaces:
        yield normalizers.Replace(Regex(r"\A +"), "")
        yield normalizers.Replace(Regex(" {2,}"), " ")
    if spec.add_dummy_prefix:
        # User-defined symbols are found in the normalized text, in their own normalized form: without a space in front.
        alone = "|".join(re.escape(symbol) for symbol in symbols)
        yield normalizers.Replace(Regex(rf"\A(?!(?:{alone})\z)"), SPACE)
    yield normalizers.Replace(" ", SPACE)
    if spec.remove_extra_whitespaces:
        yield normalizers.Replace(Regex(rf"{SPACE}+\z"), "")


def _decoders(spec: Any) -> Iterator[Any]:
    yield from (decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse())
    if spec.add_dummy_prefix:
        yield decoders.Strip(" ", left=1)


def _check(backend: Tokenizer, original: SentencePieceProcessor, model: Any, location: str) -> None:
    normalize = backend.normalizer.normalize_str
    symbols = [piece.piece for piece in model.pieces if piece.type == Piece.USER_DEFINED]
    changed = [symbol for symbol in symbols if normalize(symbol) != symbol]
    if changed:
        raise UserError(f"{location}/tokenizer.model cannot be converted: it normalizes its own symbol {changed[0]!r}")
    pieces = [piece.piece.replace(SPACE, " ") for piece in model.pieces if piece.type == Piece.NORMAL]
    between = [text for symbol in symbols for text in (f"a{symbol}b", f"{symbol} a", f"a{symbol}{symbol}")]
    # The one kind of text that is known to differ is left out.
    texts = [text for text in (*PROBES, *pieces, *between) if normalize(text) not in symbols]
    found = [encoding.ids for encoding in backend.encode_batch(texts)]
    for text, ids, expected in zip(texts, found, original.encode(texts), strict=True):
        if ids != expected:
            raise UserError(
                f"{location}/tokenizer.model cannot be converted: {text!r} would become {ids}, and not {expected}"
            )
