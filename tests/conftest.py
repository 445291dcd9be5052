"""Small models, made once and shared by every test that needs one."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import pytest
import tiny_models


@pytest.fixture(scope="session", params=["llama", "mistral"])
def family_folder(request, tmp_path_factory):
    """A tiny float32 checkpoint of each family, in shards, with a tokenizer."""
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    return tiny_models.write_checkpoint(tmp_path_factory.mktemp("llama_single"), "llama")
