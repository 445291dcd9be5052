"""The tokenizer of an imported Baichuan: without foreign code, the ids of the sentencepiece model it came with."""

import json
import random
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tiny_baichuan import TRAINING, WORDS, tokenizer_of, train_sentencepiece, write_baichuan, write_tokenizer
from transformers import AutoTokenizer

from drop_ray.errors import UserError
from drop_ray.importing.checkpoint import import_model
from drop_ray.importing.sentencepiece_tokenizer import PROBES, convert_tokenizer
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.location import load_tokenizer

PARTS = (
    *WORDS,
    *("<reserved_1>", "<reserved_12>", "<reserved_", " ", "  ", "    ", "\n", "\r\n", "\t", "▁", "\u3000", "\u00a0"),
    *("0", "7", "Hello", "🦙", "𝄞", "e\u0301", "ﬁ", "Ａ", "<0x0A>", "<", ">", "\0", "\u200b", "ö", "語"),
)
# What continues a grapheme besides marks: skin tones, and what joins letters or does not.
JOINERS = {"\u200c", "\u200d", *map(chr, range(0x1F3FB, 0x1F400))}
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=8).map("".join)
# Baichuan 1 and 2, and other settings that a model may have been trained with.
MODELS = {
    "baichuan 1": lambda: tokenizer_of(1),
    "baichuan 2": lambda: tokenizer_of(2),
    "normalized": lambda: tokenizer_of(1, normalization_rule_name="nfkc"),
    "without extra spaces": lambda: train_sentencepiece(normalization_rule_name="identity"),
    "as the library trains": lambda: train_sentencepiece(),
    "whitespace pieces": lambda: tokenizer_of(2, allow_whitespace_only_pieces=True, split_by_whitespace=False),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """The converted tokenizer, saved and loaded again, and the original."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = MODELS[request.param]()
    write_tokenizer(folder, model)
    convert_tokenizer(folder, "here").save_pretrained(folder / "converted")
    return AutoTokenizer.from_pretrained(folder / "converted"), SentencePieceProcessor(model_proto=model)


def has_special_token(text):
    return any(token in text for token in ("<s>", "</s>", "<unk>"))


def is_one_symbol(text, original):
    """A text that is one user-defined symbol and nothing more: known to lack the space in front of it."""
    pieces = original.encode(text, out_type=str)
    return len(pieces) > 1 and pieces[0] == "▁" and "".join(pieces[1:]) in TRAINING[1]["user_defined_symbols"]


def is_normalized_in_parts(text):
    """Known: the `Precompiled` normalizer of tokenizers takes a grapheme of 6 bytes or more by its characters, so that
    an accent before a skin tone is not composed. Baichuan's own models normalize nothing."""
    length = 0
    for character in text:
        extends = unicodedata.category(character)[0] == "M" or character in JOINERS
        length = len(character.encode()) + (length if extends else 0)
        if extends and length >= 6:
            return not unicodedata.is_normalized("NFKC", text)
    return False


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@example(text="e\u0301\U0001f3fb")
def test_any_text_has_the_ids_of_sentencepiece(pair, text):
    converted, original = pair
    if not (has_special_token(text) or is_one_symbol(text, original) or is_normalized_in_parts(text)):
        assert converted(text)["input_ids"] == original.encode(text), text


def test_long_texts_and_probes_have_the_ids_of_sentencepiece(pair):
    converted, original = pair
    generator = random.Random(1)
    texts = ["".join(generator.choices(PARTS, k=300)) for _ in range(20)]
    for text in (*PROBES, *texts):
        assert converted(text)["input_ids"] == original.encode(text), text


def test_ids_become_the_text_again(pair):
    converted, original = pair
    generator = random.Random(2)
    for _ in range(50):
        ids = original.encode(" ".join(generator.choices(WORDS, k=8)))
        assert converted.decode(ids) == original.decode(ids)


def test_a_symbol_alone_lacks_the_space_in_front_which_every_other_text_has(tmp_path):
    write_tokenizer(tmp_path, tokenizer_of(1))
    converted = convert_tokenizer(tmp_path, "here")
    original = SentencePieceProcessor(model_proto=tokenizer_of(1))
    assert original.encode("<reserved_12>", out_type=str) == ["▁", "<reserved_12>"]
    assert converted.tokenize("<reserved_12>") == ["<reserved_12>"]
    for text in ("<reserved_12>a", "<reserved_12><reserved_1>", " <reserved_12>", "<reserved_12> "):
        assert converted.tokenize(text) == original.encode(text, out_type=str)


@pytest.fixture(scope="module", params=[1, 2])
def imported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    import_model(str(write_baichuan(folder / "source", request.param)), None, folder / "output")
    return folder / "output", SentencePieceProcessor(model_proto=tokenizer_of(request.param))


def test_an_imported_folder_and_its_exports_load_the_same_tokenizer(imported, tmp_path):
    folder, original = imported
    export_checkpoint(open_checkpoint(folder), DropLists((1,), ()), tmp_path / "dropped")
    text = "  the 北京<reserved_12>\n🦙 12"
    for loaded in (AutoTokenizer.from_pretrained(folder), load_tokenizer(tmp_path / "dropped")):
        assert loaded(text)["input_ids"] == original.encode(text)
        assert (loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id, loaded.pad_token_id) == (1, 2, 0, 0)
        assert len(loaded) == original.get_piece_size()
        assert loaded.convert_tokens_to_ids("<reserved_12>") == original.piece_to_id("<reserved_12>")
        assert loaded.model_max_length == 256


def test_tokens_around_a_text_are_those_of_the_config(tmp_path):
    original = SentencePieceProcessor(model_proto=tokenizer_of(2))
    for add_bos, add_eos in ((True, False), (False, True), (True, True)):
        folder = tmp_path / f"{add_bos}{add_eos}"
        folder.mkdir()
        write_tokenizer(folder, tokenizer_of(2), add_bos_token=add_bos, add_eos_token=add_eos)
        convert_tokenizer(folder, "here").save_pretrained(folder / "converted")
        found = AutoTokenizer.from_pretrained(folder / "converted")
        expected = [1] * add_bos + original.encode("a city") + [2] * add_eos
        assert found("a city")["input_ids"] == expected
        assert found("a city", add_special_tokens=False)["input_ids"] == original.encode("a city")


def test_a_special_token_within_a_text_is_its_id_where_it_stands_as_a_word(tmp_path):
    write_tokenizer(tmp_path, tokenizer_of(2))
    converted = convert_tokenizer(tmp_path, "here")
    original = SentencePieceProcessor(model_proto=tokenizer_of(2))
    assert converted("the <s> fox")["input_ids"] == [*original.encode("the "), 1, *original.encode(" fox")]
    assert converted("<s>fox")["input_ids"] == original.encode("<s>fox")


@pytest.mark.parametrize("field", ["add_bos_token", "add_eos_token"])
def test_a_config_that_does_not_say_what_is_added_is_refused(tmp_path, field):
    write_tokenizer(tmp_path, tokenizer_of(2), **{field: None})
    with pytest.raises(UserError, match=f"here/tokenizer_config.json does not say `{field}`.*add it"):
        convert_tokenizer(tmp_path, "here")


def test_files_that_are_missing_broken_or_of_another_kind_are_refused(tmp_path):
    write_tokenizer(tmp_path, tokenizer_of(2))
    model = tmp_path / "tokenizer.model"
    for content, message in (
        (None, "here has no tokenizer.model; download"),
        (b"<html>not found</html>", "here/tokenizer.model is no sentencepiece model"),
        (train_sentencepiece(model_type="unigram"), "is not a BPE model"),
        (tokenizer_of(2, treat_whitespace_as_suffix=True, add_dummy_prefix=True), "cannot be converted: 'a' would"),
    ):
        model.unlink(missing_ok=True)
        if content is not None:
            model.write_bytes(content)
        with pytest.raises(UserError, match=message):
            convert_tokenizer(tmp_path, "here")


def test_tokens_outside_the_sentencepiece_model_are_refused(tmp_path):
    write_tokenizer(tmp_path, tokenizer_of(2), pad_token="<pad>")
    with pytest.raises(UserError, match="names <pad>, which tokenizer.model does not have"):
        convert_tokenizer(tmp_path, "here")
    write_tokenizer(tmp_path, tokenizer_of(2))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_start|>": 400}))
    with pytest.raises(UserError, match="here adds tokens to the 400 of tokenizer.model"):
        convert_tokenizer(tmp_path, "here")


@pytest.mark.parametrize("text", ['{"<x>": "many"}', "[1]", "[" * 5000, '{"a": 1, "a": 2}', b"\xff"], ids=str)
@pytest.mark.parametrize("name", ["added_tokens.json", "tokenizer_config.json"])
def test_settings_of_anything_else_are_refused_with_the_file(tmp_path, name, text):
    write_tokenizer(tmp_path, tokenizer_of(2))
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"^here(/{name}| has added tokens whose ids are no integers)"):
        convert_tokenizer(tmp_path, "here")


def test_a_merge_that_the_conversion_would_get_wrong_is_noticed(tmp_path):
    """sentencepiece merges through a letter that is no piece itself, `tokenizers` cannot."""
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer_of(2))
    piece = next(piece for piece in model.pieces if piece.piece == "q")
    piece.piece = "Q"
    write_tokenizer(tmp_path, model.SerializeToString())
    with pytest.raises(UserError, match=r"cannot be converted: '.*q.*' would become \[.*\], and not \["):
        convert_tokenizer(tmp_path, "here")
