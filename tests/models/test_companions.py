"""What an export and an import copy beside the weights: nothing from outside of the model."""

import json
import os
import shutil

import pytest
import torch
from tiny_models import edit_json, make_model, write_checkpoint
from tiny_run import config_of, write_inputs

from drop_ray.errors import UserError
from drop_ray.importing.checkpoint import import_model
from drop_ray.job.opening import open_job
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.export_formats import EXPORT_FORMATS
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import companion_files
from drop_ray.models.location import load_tokenizer

DROPS = DropLists((1,), ())


@pytest.fixture
def model(llama_folder, tmp_path):
    """A copy that a test may change, in a folder with a file that is not the model's."""
    (tmp_path / "private.txt").write_text("private")
    return shutil.copytree(llama_folder, tmp_path / "model")


def export(folder, output):
    export_checkpoint(open_checkpoint(folder), DROPS, output)
    return output


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("target", ["../private.txt", "PRIVATE", "link-to-outside", "../no-such-file"])
@pytest.mark.parametrize("name", ["LICENSE", "tokenizer.json", "README.md"])
def test_a_link_out_of_the_model_is_refused_before_anything_is_written(model, tmp_path, name, target):
    (model / "link-to-outside").symlink_to(tmp_path / "private.txt")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(target.replace("PRIVATE", str(tmp_path / "private.txt")))
    output = tmp_path / "output"
    with pytest.raises(
        UserError, match=f"model.path: .*/{name} is a link out of the model's folder, to .*; put a copy"
    ):
        companion_files(model)
    if name != "tokenizer.json":  # which must be readable for a model to be opened
        with pytest.raises(UserError, match="is a link out of the model's folder"):
            export(model, output)
    assert not output.exists()


def test_a_run_that_will_export_finds_the_link_before_any_work(tmp_path):
    inputs = write_inputs(tmp_path)
    (inputs / "model" / "NOTICE").symlink_to(inputs / "text.txt")
    assert open_job(config_of(inputs, tmp_path / "store", evaluation={}))
    with pytest.raises(UserError, match="NOTICE is a link out of the model's folder"):
        open_job(config_of(inputs, tmp_path / "store", evaluation={}, export="all", export_formats=["dropped"]))


def test_a_link_to_another_file_of_the_model_is_the_models_own(model, tmp_path):
    (model / "LICENSE").rename(model / "licence-text")
    (model / "LICENSE").symlink_to("licence-text")
    copied = export(model, tmp_path / "output") / "LICENSE"
    assert not copied.is_symlink()
    assert copied.read_text() == (model / "licence-text").read_text()


def as_cached(model, cache):
    """A model as the Hugging Face cache keeps it: links to blobs that are named by their hash."""
    blobs, snapshot = cache / "models--org--tiny" / "blobs", cache / "models--org--tiny" / "snapshots" / "0a1b"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(model.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_a_snapshot_of_the_hugging_face_cache_exports_as_a_plain_folder_does(model, tmp_path):
    snapshot = as_cached(model, tmp_path / "hub")
    expected, cached = export(model, tmp_path / "expected"), export(snapshot, tmp_path / "output")
    cards = [(folder / "README.md").read_text() for folder in (cached, expected)]
    # The card alone knows where the base is from.
    assert ["base_model: org/tiny" in card for card in cards] == [True, False]
    for folder in (cached, expected):
        (folder / "README.md").unlink()
    assert {path.name: path.read_bytes() for path in cached.iterdir()} == {
        path.name: path.read_bytes() for path in expected.iterdir()
    }


def test_blobs_of_another_model_and_a_blob_that_is_a_link_are_outside(model, tmp_path):
    snapshot = as_cached(model, tmp_path / "hub")
    other = as_cached(model, tmp_path / "elsewhere")
    licence = snapshot / "LICENSE"
    licence.unlink()
    licence.symlink_to((other / "LICENSE").resolve())
    with pytest.raises(UserError, match="is a link out of the model's folder"):
        companion_files(snapshot)
    licence.unlink()
    (snapshot.parents[1] / "blobs" / "trap").symlink_to(tmp_path / "private.txt")
    licence.symlink_to("../../blobs/trap")
    with pytest.raises(UserError, match="is a link out of the model's folder"):
        companion_files(snapshot)


def test_weights_may_be_linked_from_anywhere(model, tmp_path):
    weights = next(model.glob("*.safetensors"))
    weights.rename(tmp_path / "weights")
    weights.symlink_to(tmp_path / "weights")
    assert weights.name in names(export(model, tmp_path / "output"))


def test_a_folder_is_no_companion_and_what_cannot_be_read_to_its_end_is_refused(model, tmp_path):
    (model / "README.d").mkdir()
    (model / "LICENSES").mkdir()
    assert {"README.d", "LICENSES"}.isdisjoint(path.name for path in companion_files(model))
    os.mkfifo(model / "NOTICE")
    with pytest.raises(UserError, match="model.path: .*/NOTICE is not a file; remove it"):
        companion_files(model)


def test_a_name_that_no_record_can_have_is_refused_by_name(model):
    (model / "LICENSE\n.txt").write_text("a licence")
    with pytest.raises(UserError, match=r"a file is called 'LICENSE.n.txt'; rename or remove it"):
        companion_files(model)


def test_an_import_refuses_such_links_too(tmp_path):
    folder = write_checkpoint(tmp_path / "model", "LlamaForCausalLM")
    (folder / "NOTICE").symlink_to("/etc/hostname")
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    torch.save(make_model().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="/NOTICE is a link out of the model's folder"):
        import_model(str(folder), None, tmp_path / "output")
    assert not (tmp_path / "output").exists()


CODE = {
    *("tokenizer.py", "tokenizer_custom.py", "tokenizer_helper.so", "chat_template.py", "README.py", "README.sh"),
    *("LICENSE.py", "Custom License.exe", "NOTICE.pyc", "USE_POLICY.html", "tokenizer.pkl", "tokenizer_config.json.py"),
}
DATA = {
    *(
        "LICENSE-APACHE",
        "LICENSE-2.0",
        "NOTICE",
        "README.md",
        "USE_POLICY.md",
        "LICENSE.PDF",
        "Community License for Tiny.pdf",
    ),
    *("tokenizer.model", "tokenizer.model.v3", "chat_template.jinja", "tokenizer_config.json", "merges.txt"),
}


def test_data_and_documents_are_copied_and_code_never_is(model, tmp_path):
    for name in (CODE | DATA) - names(model):
        (model / name).write_text("content")
    exported = names(export(model, tmp_path / "output"))
    assert exported >= DATA
    assert exported & CODE == set()


def test_fields_that_name_code_of_the_source_are_left_out(model, tmp_path, caplog):
    foreign = {"AutoTokenizer": ["tokenization_x.X", "somebody/else--tokenization_x.X"]}
    edit_json(model / "tokenizer_config.json", auto_map=foreign, custom={"auto_map": foreign, "kept": 1})
    pipelines = {"chat": {"impl": "somebody/else--pipe.Pipe"}}
    edit_json(model / "config.json", custom_pipelines=pipelines, custom={"auto_map": {"AutoConfig": "c.C"}})
    for format in EXPORT_FORMATS:
        output = tmp_path / format
        drops = DropLists((1,), (1,))
        export_checkpoint(open_checkpoint(model), drops, output, format=format)
        written = "".join(path.read_text() for path in output.glob("*.json"))
        assert not any(text in written for text in ("tokenization_x", "somebody", "c.C", "custom_pipelines"))
        ours = json.loads((output / "config.json").read_text()).get("auto_map", {})
        assert all((output / f"{value.partition('.')[0]}.py").is_file() for value in ours.values())
        tokenizer = json.loads((output / "tokenizer_config.json").read_text())
        assert tokenizer["custom"] == {"kept": 1}
        assert load_tokenizer(output)("a").input_ids
    assert "tokenizer_config.json names code (auto_map or custom_pipelines), which is left out" in caplog.text


def test_a_tokenizer_that_names_no_code_is_copied_byte_for_byte(model, tmp_path):
    spaced = (model / "tokenizer_config.json").read_text().replace(",", " ,   ")
    (model / "tokenizer_config.json").write_text(spaced)
    assert (export(model, tmp_path / "output") / "tokenizer_config.json").read_text() == spaced


@pytest.mark.parametrize("text", ["{", "", "\x00", "[" * 100_000])
def test_a_broken_companion_is_refused_before_anything_is_written(model, tmp_path, text):
    (model / "generation_config.json").write_text(text)
    with pytest.raises(UserError, match="generation_config.json: is (not JSON: .*|nested deeper than 100 levels)"):
        export(model, tmp_path / "output")
    assert not (tmp_path / "output").exists()
