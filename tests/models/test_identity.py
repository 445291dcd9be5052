"""A model is identified by all of its bytes, which are read once: what is remembered, and when it is not believed."""

import base64
import hashlib
import logging
import os
import shutil
from pathlib import Path

import boto3
import pytest
import torch
from checkpoint_forms import upload, write_form
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import make_model

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.files import model_folder, weight_hashes
from drop_ray.store.hash_memory import HashMemory

SHARD = "model-00001-of-00004.safetensors"


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A node's memory; files that a test has just written are remembered too."""
    monkeypatch.setattr(weight_hashes, "SETTLED_S", -60)
    return lambda: HashMemory(tmp_path / "cache")


@pytest.fixture
def model(llama_folder, tmp_path):
    return Path(shutil.copytree(llama_folder, tmp_path / "model"))


@pytest.fixture
def reads(monkeypatch):
    """The weight files that were hashed."""
    names, fill = [], model_folder.LocalSource.fill

    def watched(self, pieces):
        names.append(self.path.name)
        fill(self, pieces)

    def start():
        monkeypatch.setattr(model_folder.LocalSource, "fill", watched)
        return names

    return start


def identity(folder, memory, **options):
    return open_checkpoint(folder, hashes=memory, **options).identity


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_models_that_differ_in_one_layer_have_two_identities(tmp_path, memory):
    """All projections of layer 5 of 8 differ, in one file of 8 MiB: neither its first, middle nor last MiB does."""
    folder = tmp_path / "base"
    folder.mkdir()
    config = '{"model_type": "llama", "num_hidden_layers": 8}'
    (folder / "config.json").write_text(config)
    tensors = {f"model.layers.{layer}.mlp.up_proj.weight": torch.zeros(512, 512) for layer in range(8)}
    save_file(tensors, folder / "model.safetensors")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    save_file({**tensors, "model.layers.5.mlp.up_proj.weight": torch.ones(512, 512)}, other / "model.safetensors")
    middle = (folder / "model.safetensors").stat().st_size // 2
    before, after = ((path / "model.safetensors").read_bytes() for path in (folder, other))
    for start in (0, middle - (1 << 19), len(before) - (1 << 20)):
        assert before[start : start + (1 << 20)] == after[start : start + (1 << 20)]
    assert identity(folder, memory()) != identity(other, memory())


@pytest.mark.parametrize("form", ["single safetensors", "sharded bin"])
def test_every_byte_of_every_weight_file_counts(form, tmp_path, memory):
    folder = write_form(tmp_path / "model", form, make_model())
    known = {identity(folder, memory())}
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        flip(path, path.stat().st_size - 2500)  # inside a tensor
        known.add(identity(folder, memory()))
    assert len(known) == 1 + len([*folder.glob("*.safetensors"), *folder.glob("*.bin")])


def test_weights_are_hashed_once_on_a_node_and_anew_when_they_change(model, memory, reads):
    first = identity(model, memory())
    opened = open_checkpoint(model, hashes=memory())
    read = reads()
    assert opened.identity == first
    assert read == [], "another process of this node finds what was remembered"
    times = (model / SHARD).stat()
    flip(model / SHARD, -1)
    os.utime(model / SHARD, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert identity(model, memory()) != first, "equal size and mtime: ctime tells"


def test_a_file_that_has_just_been_written_is_not_remembered(model, tmp_path):
    os.utime(model / SHARD)  # sets ctime to now
    memory = HashMemory(tmp_path / "cache")
    open_checkpoint(model, hashes=memory)
    key = model_folder.LocalSource(model / SHARD).state().key
    assert identity(model, memory)
    assert memory.get(key) is None


def test_a_file_that_changes_while_it_is_read_is_refused(model, memory, monkeypatch):
    fill = model_folder.LocalSource.fill

    def fill_then_write(self, pieces):
        fill(self, pieces)
        if self.path.name == SHARD:
            flip(self.path, -1)

    opened = open_checkpoint(model, hashes=memory())
    monkeypatch.setattr(model_folder.LocalSource, "fill", fill_then_write)
    with pytest.raises(UserError, match=rf"{SHARD} changed while it was read"):
        _ = opened.identity


def test_long_reading_says_how_far_it_is(model, memory, monkeypatch, caplog):
    monkeypatch.setattr(weight_hashes, "TOLD_EVERY_S", 0)
    caplog.set_level(logging.INFO)
    identity(model, memory())
    total = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    last = caplog.messages[-1]
    assert last.startswith(f"identifying {model} by all of its bytes: ")
    assert last.endswith(" read")
    assert f"{total / 1024:.0f}" in last


def as_snapshot(model, folder, name_of):
    """The model as the Hugging Face cache keeps it: links to blobs."""
    snapshot, blobs = folder / "snapshots" / "c0ffee", folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in model.iterdir():
        blob = blobs / name_of(path)
        shutil.copyfile(path, blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_hub_s_own_hashes_are_taken_for_files_of_its_cache(model, tmp_path, memory, reads):
    snapshot = as_snapshot(model, tmp_path / "hub", sha256)
    opened = open_checkpoint(snapshot, hashes=memory())
    expected = identity(model, memory())
    read = reads()
    assert (opened.identity, read) == (expected, [])


def test_no_other_name_of_64_digits_is_believed(model, tmp_path, memory):
    expected = identity(model, memory())
    short = as_snapshot(model, tmp_path / "git", lambda path: sha256(path)[:40])
    assert identity(short, memory()) == expected
    elsewhere = Path(shutil.copytree(model, tmp_path / "mine"))
    (tmp_path / "store").mkdir()
    target = tmp_path / "store" / ("0" * 64)
    (elsewhere / SHARD).rename(target)
    (elsewhere / SHARD).symlink_to(target)
    assert identity(elsewhere, memory()) == expected


def count_reads(s3_server):
    """Requests for bytes of weights, from now on."""
    requests = []

    def watch(moto, environ, start_response):
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(".safetensors"):
            requests.append(environ["PATH_INFO"])
        return moto(environ, start_response)

    s3_server.fault = watch
    return requests


def test_on_s3_the_etag_tells_whether_weights_are_hashed_anew(model, s3_server, s3_url, memory):
    upload(model, s3_url)
    first = identity(s3_url, memory())
    assert first == identity(model, memory())
    opened = open_checkpoint(s3_url, hashes=memory())
    elsewhere = open_checkpoint(s3_url, hashes=HashMemory(Path("/proc/none"), opened.hashes.known))
    requests = count_reads(s3_server)
    assert opened.identity == first
    elsewhere.hashes.known.update(opened.hashes.of_scheme("s3://"))
    assert elsewhere.identity == first, "a worker on another node is told the hashes"
    assert requests == []
    flip(model / SHARD, -1)
    upload(model, s3_url)
    assert identity(s3_url, memory()) == identity(model, memory()) != first


def test_a_sha256_that_s3_has_is_taken(model, s3_server, s3_url, memory):
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    for path in model.iterdir():
        data = path.read_bytes()
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        checksum = {"ChecksumSHA256": digest, "ChecksumAlgorithm": "SHA256"}
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{path.name}", Body=data, **checksum)
    opened = open_checkpoint(s3_url, hashes=memory())
    requests = count_reads(s3_server)
    assert opened.identity == identity(model, memory())
    assert requests == []


def test_the_outline_is_of_names_shapes_and_sizes(model, tmp_path, memory):
    other = Path(shutil.copytree(model, tmp_path / "other"))
    flip(other / SHARD, -1)
    first, second = open_checkpoint(model), open_checkpoint(other)
    assert first.outline == second.outline
    with safe_open(other / SHARD, "pt") as file:
        name = next(iter(file.keys()))
    tensors = load_file(other / SHARD)
    save_file({**tensors, name: tensors[name][:-1].clone()}, other / SHARD)
    assert open_checkpoint(other).outline != first.outline
