"""Writes a model in every form in which a checkpoint may lie, and uploads it."""

import json
from pathlib import Path

import fsspec
import torch
from tiny_models import make_tokenizer

FORMS = ("single safetensors", "sharded safetensors", "single bin", "sharded bin")


def write_form(folder: Path, form: str, model) -> Path:
    """Configuration, tokenizer, licence and the weights; a folder may get several forms of one model."""
    arity, kind = form.split()
    folder.mkdir(exist_ok=True)
    make_tokenizer().save_pretrained(folder)
    (folder / "LICENSE").write_text("the licence of the base model\n")
    if kind == "safetensors":
        model.save_pretrained(folder, max_shard_size="64KB" if arity == "sharded" else "1GB")
        return folder
    model.config.architectures, model.config.dtype = [type(model).__name__], model.dtype
    model.config.save_pretrained(folder)
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    if arity == "single":
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    names = list(state)
    parts = {f"pytorch_model-0000{number + 1}-of-00003.bin": names[number::3] for number in range(3)}
    for file, part in parts.items():
        torch.save({name: state[name] for name in part}, folder / file)
    write_index(folder / "pytorch_model.bin.index.json", parts)
    return folder


def write_index(path: Path, parts) -> None:
    """parts: names of tensors by file."""
    weight_map = {name: file for file, names in parts.items() for name in names}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def upload(folder: Path, url: str) -> None:
    files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    for path in folder.iterdir():
        files.pipe_file(f"{root}/{path.name}", path.read_bytes())
