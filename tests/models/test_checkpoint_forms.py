"""One model in every form in which its files may lie: they are the same model, to the bit."""

import fnmatch
import shutil
from pathlib import Path

import fsspec
import pytest
import torch
from checkpoint_forms import FORMS, upload, write_form
from safetensors import safe_open
from tiny_models import edit_json, logits_of, make_model, token_ids, write_checkpoint

from drop_ray.errors import UserError
from drop_ray.models import location
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer, locate_model
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings
from drop_ray.store import ranges

IDS = token_ids(2, 24)
DROPS = DropLists((1,), (2,))
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def model_in(dtype):
    """Parameters only: the buffers of rotary embeddings are float32 in any model that is loaded."""
    model = make_model()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def export(location, output):
    export_checkpoint(open_checkpoint(location), DROPS, output)
    return output


def score(location, placement="streamed"):
    scorer = Scorer(
        open_checkpoint(location), DropLists(), dtype=torch.float32, attn_implementation="sdpa", placement=placement
    )
    return list(scorer.score(IDS, [range(2)], SweepSettings(micro_batch=2)))


@pytest.fixture(scope="module", params=FORMS)
def form(request, tmp_path_factory):
    return write_form(tmp_path_factory.mktemp("form"), request.param, make_model())


@pytest.fixture(scope="module", params=[form for form in FORMS if "safetensors" in form])
def safetensors_form(request, tmp_path_factory):
    return write_form(tmp_path_factory.mktemp("form"), request.param, make_model())


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces and batches so small that reading a tiny tensor takes several of both."""
    monkeypatch.setattr(ranges, "RANGE_BYTES", 1000)
    monkeypatch.setattr(ranges, "RANGES_AT_ONCE", 3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_as_the_model_that_was_saved(form, dtype, tmp_path):
    folder = write_form(tmp_path, form, model_in(dtype))
    loaded = load_model(folder)
    assert loaded.dtype == dtype
    assert torch.equal(logits_of(loaded, IDS), logits_of(model_in(dtype), IDS))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_an_export_keeps_dtypes_and_bits_and_is_safetensors_that_the_library_reads(form, dtype, tmp_path):
    folder = write_form(tmp_path / "base", form, model_in(dtype))
    output = export(folder, tmp_path / "dropped")
    expected = load_model(folder, DROPS).state_dict()
    found = {}
    for path in output.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == dtype and torch.equal(found[name], tensor) for name, tensor in expected.items())
    names = {path.name for path in output.iterdir() if "model" in path.name and "modeling" not in path.name}
    if "sharded" in form:
        shards = len(open_checkpoint(output).shards)
        assert shards > 1
        assert names == {f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)} | {
            "model.safetensors.index.json"
        }
    else:
        assert names == {"model.safetensors"}


def test_the_safetensors_and_the_bin_of_a_model_export_to_the_same_tensors(tmp_path):
    single = export(write_form(tmp_path / "a", "single safetensors", make_model()), tmp_path / "a-dropped")
    from_bin = export(write_form(tmp_path / "b", "single bin", make_model()), tmp_path / "b-dropped")
    first, second = (open_checkpoint(folder) for folder in (single, from_bin))
    assert first.tensors == second.tensors
    assert all(torch.equal(first.read([name])[name], second.read([name])[name]) for name in first.tensors)


def test_a_copy_has_the_same_identity_and_another_training_another(form, tmp_path):
    identity = open_checkpoint(form).identity
    assert open_checkpoint(shutil.copytree(form, tmp_path / "copy")).identity == identity
    kind = "bin" if list(form.glob("*.bin")) else "safetensors"
    arity = "sharded" if list(form.glob("*.index.json")) else "single"
    other = write_form(tmp_path / "other", f"{arity} {kind}", make_model(seed=1))
    assert open_checkpoint(other).identity != identity


def test_safetensors_win_where_a_folder_has_both(tmp_path):
    folder = write_form(tmp_path, "single safetensors", make_model())
    (folder / "pytorch_model.bin").write_bytes(b"not looked at")
    assert [shard.file for shard in open_checkpoint(folder).shards] == ["model.safetensors"]


def test_on_s3_it_is_the_same_model(safetensors_form, s3_url, small_pieces):
    upload(safetensors_form, s3_url)
    remote, local = open_checkpoint(s3_url), open_checkpoint(safetensors_form)
    assert remote.identity == local.identity
    assert (remote.location, remote.tensors) == (s3_url, local.tensors)
    assert torch.equal(logits_of(load_model(remote), IDS), logits_of(make_model(), IDS))
    assert load_tokenizer(remote.folder)("red")["input_ids"] == load_tokenizer(local.folder)("red")["input_ids"]


def test_an_export_from_s3_has_the_bytes_of_a_local_one(safetensors_form, s3_url, tmp_path, small_pieces):
    upload(safetensors_form, s3_url)
    assert files_of(export(s3_url, tmp_path / "remote")) == files_of(export(safetensors_form, tmp_path / "local"))


def test_scores_streamed_from_s3_are_those_of_the_local_model(safetensors_form, s3_url, small_pieces):
    upload(safetensors_form, s3_url)
    assert score(s3_url) == score(safetensors_form) == score(safetensors_form, "resident")


def test_weights_on_s3_are_read_in_small_ranges_and_never_as_a_file(tmp_path, s3_server, s3_url, small_pieces):
    folder = write_form(tmp_path, "single safetensors", make_model())
    upload(folder, s3_url)
    lengths = []

    def record(application, environ, start_response):
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".safetensors"):
            first, last = environ["HTTP_RANGE"].removeprefix("bytes=").split("-")
            lengths.append(int(last) - int(first) + 1)
        return application(environ, start_response)

    s3_server.fault = record
    checkpoint = open_checkpoint(s3_url)
    del lengths[:]
    checkpoint.read(["model.norm.weight", "model.layers.0.mlp.up_proj.weight"])
    assert sum(lengths) == (32 + 32 * 64) * 4
    assert max(lengths) <= 1000
    assert not list(checkpoint.folder.glob("*.safetensors"))


def test_any_storage_of_fsspec_will_do(safetensors_form):
    memory = fsspec.filesystem("memory")
    for path in safetensors_form.iterdir():
        memory.pipe_file(f"/models/tiny/{path.name}", path.read_bytes())
    assert open_checkpoint("memory://models/tiny/").identity == open_checkpoint(safetensors_form).identity
    assert score("memory://models/tiny") == score(safetensors_form)


def test_a_revision_is_a_prefix_below_a_url():
    assert locate_model("s3://bucket/model/", "step1000") == "s3://bucket/model/step1000"
    assert locate_model("s3://bucket/model", None) == "s3://bucket/model"


def test_names_of_one_bin_tensor_are_read_into_one_memory(tmp_path):
    folder = write_form(tmp_path, "single bin", make_model(tie_word_embeddings=True))
    state = torch.load(folder / "pytorch_model.bin")
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    torch.save(state, folder / "pytorch_model.bin")
    tied = ["lm_head.weight", "model.embed_tokens.weight"]
    found = open_checkpoint(folder).read([*tied, "model.norm.weight"])
    assert found[tied[0]].data_ptr() == found[tied[1]].data_ptr() != found["model.norm.weight"].data_ptr()
    assert torch.equal(logits_of(load_model(folder), IDS), logits_of(make_model(tie_word_embeddings=True), IDS))


def test_transposed_and_sliced_tensors_of_a_bin_file_come_out_row_by_row(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    whole = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    state = {"transposed": whole.T, "slice": whole[1:4, 2:5], "scalar": whole[2, 3], "empty": whole[:0]}
    torch.save(state, tmp_path / "pytorch_model.bin")
    checkpoint = open_checkpoint(tmp_path)
    assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == {
        "transposed": (10, 6),
        "slice": (3, 3),
        "scalar": (),
        "empty": (0, 10),
    }
    for name, tensor in checkpoint.read(state).items():
        assert torch.equal(tensor, state[name])
        with (tmp_path / "copy").open("wb") as target:
            checkpoint.shards[0].copy(name, target)
        assert (tmp_path / "copy").read_bytes() == state[name].contiguous().numpy().tobytes()


def test_a_configuration_is_enough_where_no_weights_are_asked_for(llama_folder, tmp_path):
    shutil.copy(llama_folder / "config.json", tmp_path)
    checkpoint = open_checkpoint(tmp_path, weights=False)
    assert (checkpoint.shards, checkpoint.tensors, checkpoint.config["hidden_size"]) == ((), {}, 32)
    with pytest.raises(ValueError, match="was opened without its weights"):
        assert checkpoint.identity
    with pytest.raises(UserError, match=r"has no weights .* it holds config.json"):
        open_checkpoint(tmp_path)


class Hub:
    """Stands in for `snapshot_download`: a repository with these files, of which it notes those that are fetched."""

    commit = "c0ffee"

    def __init__(self, repository, cache):
        self.repository = repository
        self.snapshot = cache / self.commit
        self.fetched = set()

    def __call__(self, name, *, revision, allow_patterns):
        assert (name, revision) in (("org/tiny", "main"), ("org/tiny", self.commit))
        self.snapshot.mkdir(exist_ok=True)
        for path in self.repository.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                self.fetched.add(path.name)
                shutil.copy(path, self.snapshot)
        return str(self.snapshot)


@pytest.mark.parametrize(
    ("forms", "fetched"),
    [
        (["single safetensors", "single bin"], {"model.safetensors"}),
        (["sharded safetensors", "sharded bin"], "model-*-of-*.safetensors"),
        (["single bin"], {"pytorch_model.bin"}),
        (["sharded bin"], "pytorch_model-*-of-*.bin"),
    ],
)
def test_of_a_hugging_face_name_only_the_weights_that_are_read_are_fetched(forms, fetched, tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    for form in forms:
        write_form(repository, form, make_model())
    for extra in ("training_args.bin", "consolidated.safetensors"):
        (repository / extra).write_bytes(b"large, and of no use")
    hub = Hub(repository, tmp_path)
    monkeypatch.setattr(location, "snapshot_download", hub)
    checkpoint = open_checkpoint(locate_model("org/tiny", "main"))
    if isinstance(fetched, str):
        fetched = {path.name for path in repository.glob(fetched)}
        assert len(fetched) > 1
    assert {name for name in hub.fetched if name.endswith((".bin", ".safetensors"))} == fetched
    assert {"config.json", "tokenizer.json", "LICENSE"} < hub.fetched
    assert torch.equal(logits_of(load_model(checkpoint), IDS), logits_of(make_model(), IDS))


def test_of_a_hugging_face_name_no_weights_are_fetched_that_nobody_asked_for(llama_folder, tmp_path, monkeypatch):
    hub = Hub(llama_folder, tmp_path)
    monkeypatch.setattr(location, "snapshot_download", hub)
    checkpoint = open_checkpoint(locate_model("org/tiny", "main", weights=False), weights=False)
    assert checkpoint.config["hidden_size"] == 32
    assert not any(name.endswith(".safetensors") for name in hub.fetched)


def test_what_is_neither_folder_nor_url_nor_name_is_refused():
    with pytest.raises(UserError, match="neither a folder, nor a URL such as s3://bucket/prefix, nor a Hugging Face"):
        locate_model("/no/such/folder", None)


@pytest.mark.parametrize("revision", ["../other", "/etc", "a//b", "x" * 300, ""])
@pytest.mark.parametrize("place", ["FOLDER", "s3://bucket/model", "org/name"])
def test_a_revision_stays_inside_its_model(place, revision, llama_folder, monkeypatch):
    monkeypatch.setattr(location, "snapshot_download", None)  # never asked
    path = str(llama_folder) if place == "FOLDER" else place
    with pytest.raises(UserError, match="model.revision: .* is not a path inside its folder"):
        locate_model(path, revision)


def test_a_name_that_the_hub_refuses_is_no_traceback():
    with pytest.raises(UserError, match="no local folder, and the Hugging Face hub did not give it .*Repo id"):
        locate_model("-a-/b..c", None)


def test_a_url_that_cannot_be_read_is_refused_by_name(s3_url, llama_folder, tmp_path):
    with pytest.raises(UserError, match=f"there is nothing at {s3_url}; correct the bucket or the prefix"):
        open_checkpoint(s3_url)
    with pytest.raises(UserError, match="there is no bucket absent-bucket, or no longer; create the bucket"):
        open_checkpoint("s3://absent-bucket/model")
    with pytest.raises(UserError, match="nosuch://a/b cannot be opened"):
        open_checkpoint("nosuch://a/b")
    upload(write_form(tmp_path, "single bin", make_model()), f"{s3_url}/bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin is a PyTorch file.*convert.*or copy it to a folder"):
        open_checkpoint(f"{s3_url}/bin")
    with pytest.raises(UserError, match=f"{s3_url} has no config.json"):
        open_checkpoint(s3_url)  # a prefix with nothing but a folder in it


def test_denied_access_to_s3_names_the_remedy(s3_server, s3_url, llama_folder):
    upload(llama_folder, s3_url)

    def deny(application, environ, start_response):
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]

    s3_server.fault = deny
    with pytest.raises(
        UserError, match=r"was refused \(AccessDenied: Access Denied\): grant s3:ListBucket on artifacts"
    ):
        open_checkpoint(s3_url)


def test_a_damaged_model_on_s3_is_refused_like_a_local_one(tmp_path, s3_url):
    folder = write_checkpoint(tmp_path / "model")
    shard = sorted(folder.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    upload(folder, s3_url)
    with pytest.raises(UserError, match=f"{s3_url}/{shard.name} is truncated: .* bytes of .*; download it again"):
        open_checkpoint(s3_url)
    edit_json(folder / "model.safetensors.index.json", weight_map={"a": "absent.safetensors"})
    upload(folder, s3_url)
    with pytest.raises(UserError, match=r"index.json names absent.safetensors, which is not there"):
        open_checkpoint(s3_url)


def test_an_object_that_shrinks_after_it_was_opened_is_refused(tmp_path, s3_url):
    folder = write_form(tmp_path, "single safetensors", make_model())
    upload(folder, s3_url)
    checkpoint = open_checkpoint(s3_url)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    upload(folder, s3_url)
    last = list(checkpoint.tensors)[-1]
    with pytest.raises(UserError, match="ended 10 bytes early"):
        checkpoint.read([last])


def test_an_unknown_tensor_is_an_error_of_the_caller(llama_folder):
    with pytest.raises(KeyError, match="no.such.weight"):
        open_checkpoint(llama_folder).read(["no.such.weight"])
