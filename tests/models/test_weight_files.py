"""Files of weights: the safetensors that are written, and damaged files of every format, refused by name."""

import io
import json
import math
import pickle
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.files import stored_tensors
from drop_ray.models.files.safetensors_writer import ShardEntries, TensorEntry, write_safetensors, write_shards
from drop_ray.models.files.stored_tensors import SAFETENSORS_DTYPES

DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


def entry_of(name, tensor):
    data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return TensorEntry(name, DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), len(data), lambda file: file.write(data))


def read_with_the_library(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_written_files_are_read_by_the_library_whatever_the_order_of_their_types(tmp_path):
    tensors = {
        "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "wide": torch.tensor([0.1, 0.2], dtype=torch.float64),
        "half": torch.tensor([[0.5]], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False, True]),
        "single": torch.tensor(1.5),
        "none": torch.empty(0, 4),
    }
    path = tmp_path / "model.safetensors"
    write_safetensors(path, [entry_of(name, tensor) for name, tensor in tensors.items()], {"by": "a test"})
    found = read_with_the_library(path)
    assert found.keys() == tensors.keys()
    assert all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in tensors.items()
    )
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "by": "a test"}


def test_a_tensor_that_writes_another_number_of_bytes_than_it_says_is_an_error(tmp_path):
    entry = TensorEntry("short", "F32", (2,), 8, lambda file: file.write(b"1234"))
    with pytest.raises(ValueError, match="short: 4 bytes were written of 8"):
        write_safetensors(tmp_path / "model.safetensors", [entry], {})


def test_many_shards_get_an_index_and_one_gets_none(tmp_path):
    first, second = (ShardEntries([entry_of(name, torch.ones(3))]) for name in "ab")
    told = []
    write_shards(tmp_path, [first, ShardEntries([]), second], lambda done, total: told.append((done, total)))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_size": 24},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    assert told == [(12, 24), (24, 24)]
    (tmp_path / "one").mkdir()
    write_shards(tmp_path / "one", [ShardEntries([]), second])
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_copying_takes_pieces_of_limited_size(tmp_path, monkeypatch, suffix):
    class Recorder(io.BytesIO):
        pieces = ()

        def write(self, data):
            self.pieces += (len(data),)
            return super().write(data)

    for module in ("safetensors_file", "torch_file"):
        monkeypatch.setattr(f"drop_ray.models.files.{module}.COPY_BYTES", 100)
    assert stored_tensors.COPY_BYTES == 16 << 20
    state = {"before": torch.ones(7), "it": torch.randn(9, 7), "after": torch.ones(3)}
    (tmp_path / "config.json").write_text("{}")
    if suffix == "safetensors":
        save_file(state, tmp_path / "model.safetensors")
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    target = Recorder()
    open_checkpoint(tmp_path).shards[0].copy("it", target)
    assert target.pieces == (100, 100, 52)
    assert target.getvalue() == state["it"].numpy().tobytes()


def safetensors_bytes(header, data):
    encoded = json.dumps(header).encode() if isinstance(header, dict | list) else header
    return struct.pack("<Q", len(encoded)) + encoded + data


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


BROKEN_SAFETENSORS = {
    "is truncated inside its header": b"\x10\0\0",
    "is not a safetensors file; download it again": struct.pack("<Q", 1 << 40) + b"{}",
    "its safetensors header: is not JSON": safetensors_bytes(b"not JSON", b""),
    "its safetensors header: must be a JSON object": safetensors_bytes([1, 2], b""),
    "is not a safetensors file .*data_offsets": safetensors_bytes({"a": {"dtype": "F32", "shape": [1]}}, b"1234"),
    "is truncated: .* bytes of .*; download it again": safetensors_bytes({"a": entry([2], 0, 8)}, b"1234"),
    "goes on after its last tensor": safetensors_bytes({"a": entry([1], 0, 4)}, b"12345678"),
    r"data of b begins at byte 4, not where the tensor before it ends \(8\)": safetensors_bytes(
        {"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, b"12345678"
    ),
    r"data of b begins at byte 8, not where the tensor before it ends \(4\)": safetensors_bytes(
        {"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"123456789abc"
    ),
    r"a has 8 bytes, but F32 of shape \[3\] takes 12": safetensors_bytes({"a": entry([3], 0, 8)}, b"12345678"),
    r"a has -8 bytes|data of a begins at byte 8": safetensors_bytes({"a": entry([2], 8, 0)}, b"12345678"),
    r"a tensor of shape \[-1, -2\]": safetensors_bytes({"a": entry([-1, -2], 0, 8)}, b"12345678"),
}


@pytest.mark.parametrize("message", BROKEN_SAFETENSORS)
def test_a_broken_safetensors_file_is_refused_by_name(message, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(BROKEN_SAFETENSORS[message])
    with pytest.raises(UserError, match=f"^model.path: {tmp_path}/model.safetensors.*{message}"):
        open_checkpoint(tmp_path)


def test_tensors_of_a_type_that_torch_lacks_can_be_copied_and_not_read(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes({"a": entry([16], 0, 8, "F4")}, b"12345678"))
    checkpoint, target = open_checkpoint(tmp_path), io.BytesIO()
    checkpoint.shards[0].copy("a", target)
    assert target.getvalue() == b"12345678"
    with pytest.raises(UserError, match="holds F4 tensors; give a checkpoint in BF16, F16 or F32"):
        checkpoint.read(["a"])


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


BROKEN_BIN = {
    "is in PyTorch's old format .* convert it: torch.save": saved(
        {"a": torch.ones(2)}, _use_new_zipfile_serialization=False
    ),
    "is in PyTorch's old format": b"",
    "is in PyTorch's old format .or none.": b"an error page of a proxy",
    "cannot be read .*; download it again": saved({"a": torch.ones(2)})[:-100],
    "holds more than tensors, and loading that could run foreign code": saved({"a": math.gcd}),
    "is not a mapping from names to tensors": saved([torch.ones(2)]),
    "is not a mapping from names to tensors; save model.state_dict": saved({"model": {"a": torch.ones(2)}}),
    "a is a torch.sparse_coo tensor": saved({"a": torch.eye(2).to_sparse()}),
    "a is a torch.strided tensor of torch.complex64": saved({"a": torch.ones(2, dtype=torch.complex64)}),
}


@pytest.mark.parametrize("message", BROKEN_BIN)
def test_a_broken_bin_file_is_refused_by_name(message, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(BROKEN_BIN[message])
    with pytest.raises(UserError, match=f"^model.path: {tmp_path}/pytorch_model.bin.*{message}"):
        open_checkpoint(tmp_path)


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint was run",))


def test_code_in_a_bin_file_is_never_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    torch.save({"a": Exploit()}, tmp_path / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(UserError, match="could run foreign code"):
        open_checkpoint(tmp_path)


def index(weight_map):
    return json.dumps({"metadata": {}, "weight_map": weight_map})


BROKEN_INDEX = {
    "is not JSON": "{",
    "weight_map does not map tensors to files; ": "{}",
    "must be a JSON object": "[]",
    "weight_map does not map tensors to files": index(["a"]),
    "weight_map does not map tensors to files; download it again": index({"a": 1}),
    "names '../model.safetensors', which is not a file beside it": index({"a": "../model.safetensors"}),
    "names '/etc/passwd', which is not a file beside it": index({"a": "/etc/passwd"}),
    "names 'sub/a.safetensors', which is not a file beside it": index({"a": "sub/a.safetensors"}),
    "names '', which is not a file beside it; download it again": index({"a": ""}),
    r"names 'a.x00b', which is not a file beside it": index({"a": "a\0b"}),
    "names absent.safetensors, which is not there; download it again": index({"a": "absent.safetensors"}),
    "first.safetensors lacks c, which the index says is in it": index(
        {"a": "first.safetensors", "c": "first.safetensors"}
    ),
    "b is both in first.safetensors and in second.safetensors": index(
        {"a": "first.safetensors", "b": "second.safetensors"}
    ),
}


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("message", BROKEN_INDEX)
def test_a_broken_index_is_refused_by_name(message, form, tmp_path):
    (tmp_path / "model").mkdir()
    folder = tmp_path / "model"
    (folder / "config.json").write_text("{}")
    save = save_file if form == "safetensors" else torch.save
    save({"a": torch.ones(2)}, tmp_path / f"model.{form}")
    save({"a": torch.ones(2), "b": torch.ones(2)}, folder / f"first.{form}")
    save({"b": torch.ones(2)}, folder / f"second.{form}")
    name = "model.safetensors.index.json" if form == "safetensors" else "pytorch_model.bin.index.json"
    (folder / name).write_text(BROKEN_INDEX[message].replace(".safetensors", f".{form}"))
    with pytest.raises(UserError, match=f"^model.path: {folder}.*{message.replace('.safetensors', f'.{form}')}"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["[]", "{", "7"])
def test_a_configuration_that_is_none_is_refused_by_name(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=f"^model.path: {tmp_path}/config.json: (is not JSON|must be a JSON object)"):
        open_checkpoint(tmp_path)
