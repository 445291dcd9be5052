"""A GGUF file is kept only if it is the model; what llama.cpp computes otherwise is refused.

DROP_RAY_LLAMA_CPP names the converter of a checkout of llama.cpp, for the test that runs it.
"""

import os
import sys
from pathlib import Path

import pytest
import tiny_run
from tiny_models import write_checkpoint
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

import drop_ray
from drop_ray.cli import main
from drop_ray.errors import ExportRefusedError, UserError
from drop_ray.exporting.gguf import export_gguf
from drop_ray.exporting.gguf_limits import check_gguf
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.planning.plans import DropPlan

CONVERTER = Path(__file__).with_name("stand_in_converter.py")
REAL = os.environ.get("DROP_RAY_LLAMA_CPP")
DROPS = DropLists((1, 2), (2,))
WIDE = {"intermediate_size": 256}
LLAMA_3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALED = {"rope_parameters": {**LLAMA_3, "original_max_position_embeddings": 64}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("base"), **WIDE))


@pytest.mark.parametrize(
    ("architecture", "fields", "drops", "reason"),
    [
        ("LlamaForCausalLM", {}, DropLists((1,), (1, 2)), r"lacks its MLP alone \(here 2\)"),
        ("LlamaForCausalLM", {}, DropLists((3,), (3,)), r"the last layer \(here 3\) has no MLP"),
        ("LlamaForCausalLM", {}, DropLists((0,), ()), "attention of layer 0 must stay"),
        ("LlamaForCausalLM", {"intermediate_size": 384}, DropLists((1,)), "multiples of 256, and this model's is 384"),
        ("LlamaForCausalLM", {"head_dim": 16}, DropLists((1,)), "for the size of a head"),
        ("LlamaForCausalLM", {"hidden_act": "gelu"}, DropLists((1,)), "this model has gelu"),
        (
            "LlamaForCausalLM",
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            DropLists((1,)),
            "scaling of positions by linear",
        ),
        ("Gemma2ForCausalLM", {}, DropLists((1,)), "its layers are Llama's"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(architecture, fields, drops, reason, tmp_path):
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "base", architecture, **{**WIDE, **fields}))
    with pytest.raises(UserError, match=reason):
        check_gguf(checkpoint, drops)


def test_a_file_needs_the_package_that_compares_it(base, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'drop-ray\[gguf\]'"):
        export_gguf(base, DROPS, tmp_path / "model.gguf", CONVERTER)


@pytest.mark.parametrize(
    ("output", "converter", "said"),
    [
        ("model", CONVERTER, "whose name ends with .gguf"),
        ("model.gguf", Path("nowhere.py"), "nowhere.py is not a file"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(base, output, converter, said, tmp_path):
    with pytest.raises(UserError, match=said):
        export_gguf(base, DROPS, tmp_path / output, converter)


def test_format_and_converter_go_together(capsys, tmp_path):
    command = ["export", str(tmp_path / "run.yaml"), "--plan", "p", "--output", str(tmp_path / "m.gguf")]
    (tmp_path / "run.yaml").write_text("name: run")
    for arguments in (["--format", "gguf"], ["--converter", str(CONVERTER)]):
        assert main([*command, *arguments]) == 2
        assert "--format gguf and --converter go together" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.full)])
def test_a_file_with_the_models_tensors_and_settings_is_kept(base, dtype, tmp_path):
    pytest.importorskip("gguf")
    checkpoint = base
    if dtype != "float32":
        checkpoint = open_checkpoint(write_checkpoint(tmp_path / "base", **WIDE, dtype=dtype))
    export_gguf(checkpoint, DROPS, tmp_path / "new" / "model.gguf", CONVERTER)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.gguf"]


FAULTS = {
    "value": (ExportRefusedError, "other values in blk.1.ffn_up.weight: they differ by up to 0.001"),
    "order": (ExportRefusedError, "other values in blk.0.attn_[qk].weight"),
    "absent": (ExportRefusedError, "lacks 1 tensors, the first is blk.3.attn_v.weight"),
    "epsilon": (ExportRefusedError, "for deci.attention.layer_norm_rms_epsilon, not 1e-06"),
    "heads": (ExportRefusedError, r"has \[4, 0, 0, 2\] for deci.attention.head_count_kv, not \[2, 0, 0, 2\]"),
    "fails": (UserError, r"did not convert the model \(exit status 1\):\na tokenizer that it does not know"),
    "writes nothing": (UserError, r"did not convert the model \(exit status 0\)"),
}


OFTEN = ("order", "fails")


@pytest.mark.parametrize(
    "fault", [fault if fault in OFTEN else pytest.param(fault, marks=pytest.mark.full) for fault in FAULTS]
)
def test_a_file_that_is_not_the_model_is_refused_and_not_kept(base, fault, monkeypatch, tmp_path):
    pytest.importorskip("gguf")
    monkeypatch.setenv("FAULT", fault)
    kind, said = FAULTS[fault]
    with pytest.raises(kind, match=said):
        export_gguf(base, DROPS, tmp_path / "out" / "model.gguf", CONVERTER)
    assert [*(tmp_path / "out").iterdir()] == []


def llama_2_tokenizer():
    """Of the kind that the converter knows: pieces, and bytes for what has none."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    vocab = {piece: number for number, piece in enumerate([*pieces, "▁a"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("▁", "a")], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


@pytest.mark.skipif(not REAL, reason="DROP_RAY_LLAMA_CPP names no converter")
@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": True}, {"attention_bias": True}, SCALED])
def test_llama_cpps_own_converter_writes_the_model(fields, tmp_path):
    pytest.importorskip("gguf")
    tokenizer = llama_2_tokenizer()
    folder = write_checkpoint(tmp_path / "base", **WIDE, **fields, vocab_size=len(tokenizer))
    tokenizer.save_pretrained(folder)
    export_gguf(open_checkpoint(folder), DROPS, tmp_path / "model.gguf", Path(REAL))
    assert (tmp_path / "model.gguf").is_file()


def test_a_plan_of_a_run_is_written(tmp_path):
    pytest.importorskip("gguf")
    inputs = tiny_run.write_inputs(tmp_path)
    write_checkpoint(inputs / "model", **WIDE)
    config = tiny_run.config_of(inputs, tmp_path / "store")
    written = drop_ray.export_gguf(config, DropPlan("mine", drop_attn=(1,)), tmp_path / "mine.gguf", CONVERTER)
    assert written.stat().st_size > 100_000
