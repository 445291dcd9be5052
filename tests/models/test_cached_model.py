"""A model on S3 in the cache of a node: the same model, read from the folder and no longer from S3."""

import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_forms import upload, write_form
from tiny_models import make_model

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.files import remote_folder
from drop_ray.models.loading import load_model
from drop_ray.models.location import load_tokenizer
from drop_ray.store.node_cache import NodeCache


@pytest.fixture
def cache(tmp_path):
    return NodeCache(str(tmp_path / "cache"), None)


@pytest.fixture
def on_s3(llama_folder, s3_url):
    upload(llama_folder, s3_url)
    return s3_url


@pytest.fixture
def retrained(llama_folder, tmp_path):
    """The same files, of the same sizes, with one weight changed."""
    folder = Path(shutil.copytree(llama_folder, tmp_path / "retrained"))
    shard = folder / "model-00001-of-00004.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    return folder


def refuse_weights(moto, environ, start_response):
    assert not environ["PATH_INFO"].endswith((".safetensors", ".bin")), "weights were asked for"
    return moto(environ, start_response)


def test_a_cached_model_is_the_same_and_its_weights_are_fetched_once(llama_folder, on_s3, cache, s3_server, tmp_path):
    cached = open_checkpoint(on_s3, cache=cache)
    assert cached.identity == open_checkpoint(llama_folder).identity
    assert cached.location == on_s3
    s3_server.fault = refuse_weights
    again = open_checkpoint(on_s3, cache=NodeCache(str(tmp_path / "cache"), None))
    assert again.folder == cached.folder
    expected = load_model(llama_folder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_model(again).state_dict().items())
    assert len(load_tokenizer(again.folder)) == len(load_tokenizer(llama_folder))


def test_pieces_of_a_file_are_put_together(llama_folder, on_s3, cache, monkeypatch):
    monkeypatch.setattr(remote_folder, "FETCH_BYTES", 1001)
    folder = open_checkpoint(on_s3, cache=cache).folder
    for path in llama_folder.glob("*.safetensors"):
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_pytorch_files_on_s3_can_be_read_through_the_cache(s3_url, cache, tmp_path):
    folder = write_form(tmp_path / "bin", "sharded bin", make_model())
    upload(folder, s3_url)
    assert open_checkpoint(s3_url, cache=cache).identity == open_checkpoint(folder).identity
    with pytest.raises(UserError, match="parts cannot be read over the network"):
        open_checkpoint(s3_url)


def test_another_model_at_the_same_url_is_another_entry(on_s3, cache, retrained):
    first = open_checkpoint(on_s3, cache=cache)
    upload(retrained, on_s3)
    second = open_checkpoint(on_s3, cache=cache)
    assert second.folder != first.folder
    assert second.identity == open_checkpoint(retrained).identity != first.identity


def test_a_model_that_is_replaced_while_it_is_fetched_is_refused(on_s3, cache, retrained, tmp_path, monkeypatch):
    fill, replaced = remote_folder.RemoteSource.fill, []

    def fill_then_replace(self, pieces):
        fill(self, pieces)
        if self.path.endswith(".safetensors") and not replaced:
            replaced.append(upload(retrained, on_s3))

    monkeypatch.setattr(remote_folder.RemoteSource, "fill", fill_then_replace)
    with pytest.raises(UserError, match=r"model-00001-of-00004\.safetensors was replaced while it was fetched"):
        open_checkpoint(on_s3, cache=cache)
    assert list((tmp_path / "cache" / "entries").iterdir()) == []
