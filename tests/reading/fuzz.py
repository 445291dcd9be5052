"""Anything at all, given to every reader of files from outside: each input gives a value or a UserError, and soon.

    python tests/reading/fuzz.py [--inputs 2000] [--seed 0] [--reader NAME]

Prints a table of the readers: inputs, values, errors for the user, tracebacks, inputs that took too long, and the
slowest. Exit code 1 if there was a traceback, or an input that took too long. A reader is one line of READERS.
"""

import argparse
import io
import json
import logging
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import hostile_inputs as hostile

from drop_ray.calibration.dataset import CalibrationDataset, _files_sha256
from drop_ray.calibration.text_files import read_documents, read_token_ids
from drop_ray.config import load_config
from drop_ray.errors import DropRayError
from drop_ray.evaluation.tasks.task_identity import config_identity
from drop_ray.evaluation.tasks.task_yaml import read_config
from drop_ray.job.heartbeat import Driver, Heartbeat
from drop_ray.job.ledger import read_manifest
from drop_ray.job.run_files import recorded_files
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of
from drop_ray.models.dropped import read_config as read_model_config
from drop_ray.models.files.weight_files import read_index
from drop_ray.models.fitting import check_generation_config
from drop_ray.models.layers import Layers
from drop_ray.models.location import load_tokenizer
from drop_ray.planning.plans import read_plan
from drop_ray.reading.json_text import parse_json
from drop_ray.store import Commit, open_store

LIMIT_S = 2.0
CONFIG = {
    "name": "run",
    "model": {"path": "m", "revisions": ["a", "b"], "dtype": "float32"},
    "calibration": {"source": "c.txt", "num_samples": 20, "seq_len": 32},
    "scoring": {"metrics": ["cosine"]},
    "plans": [{"strategy": "attention", "drop": [1, 2]}, {"file": "p.json"}],
    "evaluation": {"tasks": ["arc", {"name": "b", "limit": 2}], "perplexity": [{"name": "t", "source": "t.txt"}]},
    "quantization": [{"method": "awq", "text": {"source": "t.txt", "num_samples": 20}}],
    "serving": {"workloads": [{"prompt": 8, "output": 8}], "batch_sizes": [1, 2]},
    "execution": {"gpus_per_worker": 0, "store_outage_s": 1.5},
}
PLAN = {"format": "drop-plan/1", "name": "p", "drop_attn": [1, 2], "drop_mlp": [], "parameters": 10, "changes": []}
RECORD = {
    "step": {"name": "score", "identity": {"model": "m", "samples": [0, 16]}},
    "attempt": "0a0a0a0a",
    "outputs": {"scores.parquet": {"size": 10, "sha256": "0" * 64}},
    "units": {"artifacts/a": "1"},
    "provenance": {"host": "n"},
    "created": "2026-01-01T00:00:00+00:00",
}
UNITS = [{"stage": "score", "label": "a", "name": "score", "identity": {"model": "m"}}]
FILES = {"files": {"plans/a.json": {"size": 10, "sha256": "0" * 64}}}
HEARTBEAT = json.loads(Heartbeat(Driver("host", 7), 1.0, "score", killed=("a",)).to_json())
TASK = {
    "task": "t",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "t.jsonl"}, "data_dir": "."},
    "include": ["other"],
    "metric_list": [{"metric": "acc"}],
}
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 32,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "dtype": "bfloat16",
}
TOKENIZER = {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}
INDEX = {"metadata": {"total_size": 4}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
TORCH_FILE = io.BytesIO()
torch.save({"a": torch.zeros(3), "b": torch.ones(2, 2)}, TORCH_FILE)
TORCH_FILE = TORCH_FILE.getvalue()
TABLES = ({"text": ["a", None, "b"]}, {"text": [1]}, {"text": [["a", "b"]]}, {}, {"token_ids": [[1, 2], [3, 4]]})


@dataclass(frozen=True)
class Reader:
    """Something that reads a file from outside."""

    name: str
    """The kind of file."""
    file: str
    """What a file of the kind is called."""
    read: Callable[[Path], Any]
    """Reads the file at a path."""
    inputs: SearchStrategy[bytes]
    """What may stand in it."""


def _override(path: Path) -> Any:
    valid = path.with_name("valid.yaml")
    valid.write_text("model: {path: m}\ncalibration: {source: c}\nevaluation: {tasks: [a]}\n")
    return load_config(valid, [path.read_bytes().decode(errors="replace")])


def _task(path: Path) -> Any:
    return config_identity("t", read_config(path))


def _dataset(path: Path) -> Any:
    folder = path.parent
    return list(CalibrationDataset(str(folder), None, "train", None, _files_sha256(folder)).documents("text", None))


def _of_a_run(read: Callable[[Any, str], Any]) -> Callable[[Path], Any]:
    """A reader of a run's folder, which is the one that the file is in."""
    return lambda path: read(open_store(str(path.parents[1])), path.parent.name)


def _of_a_file_list(path: Path) -> Any:
    folder = path.parent / "files"
    folder.mkdir(exist_ok=True)
    path.replace(folder / path.name)
    return recorded_files(open_store(str(path.parents[1])), path.parent.name)


def _of_a_model(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A reader of a model's folder, which is the one that the file is in."""

    def with_config(path: Path) -> Any:
        if path.name != "config.json":
            path.with_name("config.json").write_text(json.dumps(MODEL))
        return read(path.parent)

    return with_config


def _skeleton(folder: Path) -> Any:
    checkpoint = open_checkpoint(folder, weights=False)
    return build_skeleton(read_model_config(checkpoint), drop_lists_of(checkpoint), torch.bfloat16)


def _parsed(parse: Callable[[bytes, str], Any]) -> Callable[[Path], Any]:
    return lambda path: parse(path.read_bytes(), path.name)


def _with_length(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(16)


def _in_a_zip(damage: bytes) -> bytes:
    """A file of torch.save, overwritten at a place that the damage itself chooses."""
    start = int.from_bytes(damage[:2], "little") % len(TORCH_FILE)
    return TORCH_FILE[:start] + damage[2:] + TORCH_FILE[start + len(damage[2:]) :]


READERS = [
    Reader(
        "commit record",
        "commit.json",
        lambda path: Commit.from_json(path.read_bytes(), "f"),
        hostile.json_files(RECORD),
    ),
    Reader("list of units", "steps.json", _of_a_run(read_manifest), hostile.json_files(UNITS)),
    Reader("list of files", "a.json", _of_a_file_list, hostile.json_files(FILES)),
    Reader("heartbeat", "a.json", _parsed(Heartbeat.from_json), hostile.json_files(HEARTBEAT)),
    Reader("config.json", "config.json", _of_a_model(_skeleton), hostile.json_files(MODEL)),
    Reader(
        "generation config",
        "generation_config.json",
        _of_a_model(lambda folder: check_generation_config(folder, "f")),
        hostile.json_files({"temperature": 0.6, "do_sample": True, "eos_token_id": [1, 2]}),
    ),
    Reader("tokenizer", "tokenizer.json", _of_a_model(load_tokenizer), hostile.json_files(TOKENIZER)),
    Reader("weight index", "a.json", lambda path: read_index(path, "f"), hostile.json_files(INDEX)),
    Reader(
        "safetensors", "model.safetensors", _of_a_model(open_checkpoint), hostile.json_files(HEADER).map(_with_length)
    ),
    Reader(".bin weights", "pytorch_model.bin", _of_a_model(open_checkpoint), hostile.ANYTHING.map(_in_a_zip)),
    Reader("JSON", "a.json", lambda path: parse_json(path.read_bytes(), "a.json"), hostile.json_files(PLAN)),
    Reader("config", "a.yaml", load_config, hostile.yaml_files(CONFIG)),
    Reader("override", "a.txt", _override, hostile.overrides("model.path", "evaluation.tasks.0", "plans.0.drop")),
    Reader("plan", "a.json", lambda path: read_plan(path, Layers(4), None), hostile.json_files(PLAN)),
    Reader("task YAML", "a.yaml", _task, hostile.yaml_files(TASK)),
    Reader("text", "a.txt", lambda path: read_documents(path, "text", "f"), hostile.ANYTHING),
    Reader("JSON text", "a.json", lambda path: read_documents(path, "text", "f"), hostile.json_files([{"text": "a"}])),
    Reader(
        "JSONL text", "a.jsonl", lambda path: read_documents(path, "text", "f"), hostile.json_line_files({"text": "a"})
    ),
    Reader("Parquet text", "a.parquet", lambda path: read_documents(path, "text", "f"), hostile.parquet_files(*TABLES)),
    Reader("JSON token ids", "a.json", lambda path: read_token_ids(path, 1, 2, "f"), hostile.json_files([[1, 2], [3]])),
    Reader(
        "Parquet token ids", "a.parquet", lambda path: read_token_ids(path, 1, 2, "f"), hostile.parquet_files(*TABLES)
    ),
]
# `datasets` takes 50 ms a folder, and has a cache of its own.
SLOW_READERS = [Reader("data set", "a.jsonl", _dataset, hostile.json_line_files({"text": "a"}))]


@dataclass
class Tally:
    """What came of the inputs of one reader."""

    inputs: int = 0
    """Inputs given."""
    values: int = 0
    """Inputs that gave a value."""
    errors: int = 0
    """Inputs that gave an error for the user."""
    faults: list[str] = field(default_factory=list)
    """A traceback for each input that gave anything else."""
    slow: list[bytes] = field(default_factory=list)
    """Inputs that took too long."""
    slowest: float = 0.0
    """Seconds of the slowest."""


class SlowError(BaseException):
    """Ends a reader that does not end; no library catches it."""


def fuzz(reader: Reader, inputs: int, seed: int, folder: Path) -> Tally:
    """Give a reader so many inputs, the same for the same seed."""
    tally = Tally()
    path = folder / reader.file
    before = signal.signal(signal.SIGALRM, _too_slow)

    @seeded(seed)
    @settings(max_examples=inputs, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(reader.inputs)
    def give(data: bytes) -> None:
        path.write_bytes(data)
        tally.inputs += 1
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 5 * LIMIT_S)
        try:
            reader.read(path)
            tally.values += 1
        except DropRayError:
            tally.errors += 1
        except SlowError:
            pass
        except Exception:
            tally.faults.append(f"{data[:200]!r}\n{traceback.format_exc()}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.monotonic() - start
        tally.slowest = max(tally.slowest, seconds)
        if seconds > LIMIT_S:
            tally.slow.append(data[:200])

    try:
        give()
    finally:
        signal.signal(signal.SIGALRM, before)
    return tally


def _too_slow(*_: object) -> None:
    raise SlowError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="inputs over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", help="only that one")
    options = parser.parse_args()
    readers = [reader for reader in [*READERS, *SLOW_READERS] if options.reader in (None, reader.name)]
    each = -(-options.inputs // len(readers))
    # Libraries log what we say in a line.
    logging.disable(logging.CRITICAL)
    print(f"{'reader':18}{'inputs':>8}{'values':>8}{'errors':>8}{'tracebacks':>12}{'too long':>10}{'slowest s':>11}")
    tallies = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, reader in enumerate(readers):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            tallies.append(tally := fuzz(reader, each, options.seed, folder))
            counts = f"{tally.inputs:8}{tally.values:8}{tally.errors:8}{len(tally.faults):12}{len(tally.slow):10}"
            print(f"{reader.name:18}{counts}{tally.slowest:11.3f}", flush=True)
    for tally in tallies:
        for fault in tally.faults[:3]:
            print(f"\n{fault}")
        for data in tally.slow[:3]:
            print(f"\ntook more than {LIMIT_S:g} s: {data!r}")
    return int(any(tally.faults or tally.slow for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
