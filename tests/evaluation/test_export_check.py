"""An export is accepted only if it gives the logits of what it was made of; a damaged one is refused, and not kept."""

import json
import logging

import pytest
import tiny_run
from safetensors.torch import load_file, save_file
from tiny_models import droppable, write_checkpoint
from tiny_wrappers import write_wrapper

import drop_ray
from drop_ray.errors import ExportRefusedError, StoreOutageError
from drop_ray.evaluation import export_check
from drop_ray.evaluation.export_check import check_export
from drop_ray.job.artifacts import CHECKPOINT
from drop_ray.models.candidates import only
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.export_formats import EXPORT_FORMATS
from drop_ray.models.families import FAMILIES, DropLists
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.variants import variant_of
from drop_ray.stages import export as stage
from drop_ray.text.progress import ignore_progress

SOME = DropLists((2,), (1, 2))
BLOCK = DropLists((1,), (1,))
FEW = ["LlamaForCausalLM", "Gemma2ForCausalLM", "DeepseekForCausalLM"]
OTHERS = [architecture for architecture in FAMILIES if architecture not in FEW]


def drops_for(format, architecture="LlamaForCausalLM"):
    return only(BLOCK if format == "plain" else SOME, droppable(architecture))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("base"), "LlamaForCausalLM"))


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_an_export_gives_the_logits_of_what_it_was_made_of(base, format, tmp_path):
    export_checkpoint(base, drops_for(format), tmp_path / "export", format=format)
    assert check_export(base, drops_for(format), tmp_path / "export", format) == 0


@pytest.mark.parametrize("architecture", [*FEW, *(pytest.param(name, marks=pytest.mark.full) for name in OTHERS)])
def test_every_family_can_be_compared(architecture, tmp_path):
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "base", architecture))
    drops = drops_for("dropped", architecture)
    for format in ("dropped", "llm-drop"):
        export_checkpoint(checkpoint, drops, tmp_path / format, format=format)
        assert check_export(checkpoint, drops, tmp_path / format, format) == 0


def change_fields(folder, change):
    fields = json.loads((folder / "config.json").read_text())
    change(fields)
    (folder / "config.json").write_text(json.dumps(fields))


def field(name, value):
    return lambda folder: change_fields(folder, lambda fields: fields.update({name: value}))


def rope_theta(folder):
    change_fields(folder, lambda fields: fields["rope_parameters"].update(rope_theta=20000.0))


def kv_heads(folder):
    """All blocks, so that layers are still alike."""

    def change(fields):
        for block in fields["block_configs"]:
            block["attention"]["n_heads_in_group"] = 4

    change_fields(folder, change)


def attention_elsewhere(folder):
    """block_configs says that layer 1 lacks what layer 2 does."""

    def change(fields):
        first, second = (fields["block_configs"][layer] for layer in (1, 2))
        first["attention"], second["attention"] = second["attention"], first["attention"]

    change_fields(folder, change)


def exchanged(first, second):
    """Two tensors have one another's values."""

    def change(folder):
        files = {path: load_file(path) for path in folder.glob("*.safetensors")}
        (one,), (other,) = ([tensors for tensors in files.values() if name in tensors] for name in (first, second))
        one[first], other[second] = other[second], one[first]
        for path, tensors in files.items():
            save_file(tensors, path, {"format": "pt"})

    return change


Q, NORM = "model.layers.{}.self_attn.q_proj.weight", "model.norm.weight"
DAMAGES = {
    "tensors of two layers": ("dropped", exchanged(Q.format(0), Q.format(3)), "differ first after layer 0, by up to"),
    "tensors of a plain one": ("plain", exchanged(Q.format(1), Q.format(2)), "differ first after layer 2, by up to"),
    "embedding and head": ("llm-drop", exchanged("model.embed_tokens.weight", "lm_head.weight"), "by the embedding"),
    "epsilon": ("dropped", field("rms_norm_eps", 1e-5), "differ first after layer 0"),
    "rope": ("plain", rope_theta, "its logits differ .* by up to .* allowed; the states differ first after layer 0"),
    "rope of nemotron-nas": ("nemotron-nas", rope_theta, "differ first after layer 0"),
    "epsilon of nemotron-nas": ("nemotron-nas", field("rms_norm_eps", 1e-5), "differ first after layer 0"),
    "heads of nemotron-nas": ("nemotron-nas", kv_heads, "cannot be read: .*has shape"),
    "layer of nemotron-nas": ("nemotron-nas", attention_elsewhere, "cannot be read: .* tensors"),
    "blocks of nemotron-nas": ("nemotron-nas", field("block_configs", [{}] * 4), "cannot be read: KeyError"),
    "layer of config-only": ("config-only", field("drop_attn_list", [3]), "differ first after layer 2"),
    "layer of llm-drop": ("llm-drop", field("drop_mlp_list", [1]), "differ first after layer 2"),
    "layer of dropped": ("dropped", field("drop_mlp_list", [1]), "cannot be read: .* tensors are missing"),
    "class": ("plain", field("architectures", ["Qwen2ForCausalLM"]), "cannot be read: .* tensors are missing"),
    "code": ("dropped", lambda folder: (folder / "sublayers.py").write_text(""), "not the modeling file of drop_ray"),
    "no code": ("llm-drop", lambda folder: (folder / "split_experts.py").unlink(), "not the modeling file of drop_ray"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_refused(base, damage, tmp_path):
    format, change, said = DAMAGES[damage]
    export_checkpoint(base, drops_for(format), tmp_path / "export", format=format)
    change(tmp_path / "export")
    with pytest.raises(ExportRefusedError, match=said):
        check_export(base, drops_for(format), tmp_path / "export", format)


@pytest.fixture
def damaging(monkeypatch):
    """Exports have a wrong field."""

    def export_damaged(checkpoint, drops, output, **settings):
        export_checkpoint(checkpoint, drops, output, **settings)
        rope_theta(output)

    monkeypatch.setattr(stage, "export_checkpoint", export_damaged)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_refused_export_leaves_nothing_in_the_folder(is_there, damaging, tmp_path):
    inputs, output = tiny_run.write_inputs(tmp_path / "inputs"), tmp_path / "export"
    if is_there:
        output.mkdir()
    with pytest.raises(ExportRefusedError, match="it was not kept"):
        drop_ray.export(tiny_run.config_of(inputs, tmp_path / "store"), DropPlan("mine", drop_attn=(1,)), output)
    assert output.exists() == is_there
    assert not is_there or not [*output.iterdir()]


class StandInWorker:
    """Has the base, and keeps what is committed."""

    def __init__(self, base):
        self._base, self.committed = base, []

    def source(self, variant):
        return self._base

    def log_progress(self, what):
        return ignore_progress

    def commit(self, step, outputs, measured):
        self.committed.append(([path.is_dir() for path in outputs.values()], [*outputs], measured))


def export_unit(format="dropped"):
    variant = variant_of("of-the-base", DropPlan("mine", drop_attn=(1,)))
    return stage.ExportUnit("mine", None, "export", variant, format, {"strategy": "file"})


def test_a_unit_commits_what_is_accepted_with_the_difference(base):
    worker = StandInWorker(base)
    export_unit().work(worker)
    assert worker.committed == [([True], [CHECKPOINT], {"logit_difference": 0.0})]


def test_a_unit_commits_nothing_that_is_refused(base, damaging):
    worker = StandInWorker(base)
    with pytest.raises(ExportRefusedError, match="the dropped export is not the model that it was made of"):
        export_unit().work(worker)
    assert worker.committed == []


def test_a_store_out_of_reach_is_no_reason_to_keep_an_export(base, monkeypatch):
    def out_of_reach(*_):
        raise StoreOutageError("the base's bucket is out of reach")

    monkeypatch.setattr(export_check, "load_source", out_of_reach)
    worker = StandInWorker(base)
    with pytest.raises(StoreOutageError):
        export_unit().work(worker)
    assert worker.committed == []


def test_what_cannot_be_computed_here_is_exported_and_said(base, monkeypatch, caplog):
    def missing(*_):
        raise ImportError("its kernels are for GPUs")

    monkeypatch.setattr(export_check, "load_source", missing)
    worker = StandInWorker(base)
    with caplog.at_level(logging.WARNING):
        export_unit("llm-drop").work(worker)
    assert "the llm-drop export was NOT compared with what it was made of" in caplog.text
    assert "its kernels are for GPUs" in caplog.text
    assert worker.committed[0][2] == {}


def test_towers_of_a_multimodal_checkpoint_are_the_bases_own(tmp_path):
    checkpoint = open_checkpoint(write_wrapper(tmp_path / "base", "gemma3"))
    drops = DropLists((1,), (2,))
    export_checkpoint(checkpoint, drops, tmp_path / "export")
    assert check_export(checkpoint, drops, tmp_path / "export", "dropped") == 0
    towers = [name for name in checkpoint.whole.tensors if "vision_tower" in name and name.endswith("norm1.weight")]
    files = {path: load_file(path) for path in (tmp_path / "export").glob("*.safetensors")}
    for path, tensors in files.items():
        if towers[0] in tensors:
            tensors[towers[0]] += 1
            save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ExportRefusedError, match=f"has another {towers[0]} than the base"):
        check_export(checkpoint, drops, tmp_path / "export", "dropped")
