"""What the driver costs when units are many and tiny: a dry run, a run, a run that does nothing, and `status`.

    python tests/benchmarks/many_units.py
    python tests/benchmarks/many_units.py --units 500 --json after.json
    python tests/benchmarks/many_units.py --baseline OTHER_CHECKOUT     # that checkout's code first, then this one's

Each command in a process of its own, on a model of 12 layers of width 32, random plans and texts of 16 tokens, with two
workers and Ray on this machine; then, what does no unit again with the same store on an S3 server that answers each
request after 50 ms, whose requests are counted. Printed: wall and CPU seconds of the driver's main thread and who they
belong to (Ray, the store, the libraries, ours); what is hashed and asked of the store; and what each further unit
costs, which is the difference between two numbers of units, without what a run costs once. CPU seconds tell more than
wall seconds on a machine that others use.
"""

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml

sys.path.append(str(Path(__file__).parents[1] / "support"))
import tiny_models
from s3_server import Application, S3Server

NUM_LAYERS, DROPPED, SEQ_LEN = 12, 8, 16
# A file each, so that it shows how often a text is hashed.
NUM_TEXTS, TEXT_WORDS = 10, 20_000
LATENCY_S = 0.05
KINDS = ("wall", "cpu")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "RAY_AUTH_MODE": "disabled"}
# Who the parts of `driver_parts` belong to.
OWNERS = {
    "Ray": ["Ray: start and stop", "Ray: workers start", "Ray: wait for units", "Ray: messages", "Ray: metrics"],
    "store": ["store", "tables"],
    "libraries": ["importing libraries", "texts"],
    "ours": ["open the job", "identities", "hash texts", "read versions", "ledger", "pool", "watch"],
}
OWNERS["ours"] += ["gather the report", "write the report", "rest"]


def write_inputs(folder: Path) -> None:
    tiny_models.write_checkpoint(folder / "model", num_layers=NUM_LAYERS)
    for number in range(NUM_TEXTS):
        words = random.Random(number).choices(["red", "green", "seven", "two", "walks", "sings"], k=TEXT_WORDS)
        (folder / f"text-{number}.txt").write_text(" ".join(words))


def write_config(folder: Path, num_units: int, store: str) -> str:
    """The base and every plan on every text make the units; calibration and scoring are three more."""
    texts = [
        {"name": f"text-{number}", "source": f"{folder}/text-{number}.txt", "num_samples": 1, "seq_len": SEQ_LEN}
        for number in range(NUM_TEXTS)
    ]
    plans = [
        {"strategy": "random", "of": "joint", "drop": [DROPPED], "seed": seed}
        for seed in range(num_units // NUM_TEXTS - 1)
    ]
    values = {
        "model": {"path": str(folder / "model"), "dtype": "float32"},
        "calibration": {"source": f"{folder}/text-0.txt", "num_samples": 4, "seq_len": SEQ_LEN},
        "scoring": {"micro_batch": 4, "range_size": 4},
        "plans": plans,
        "evaluation": {"batch_size": 1, "perplexity": texts},
        "store": store,
        "execution": {"num_workers": 2},
    }
    path = folder / ("s3.yaml" if store.startswith("s3://") else "local.yaml")
    path.write_text(yaml.safe_dump(values))
    return str(path)


def measure(folder: Path, checkout: Path, arguments: list[str], limit_s: float) -> dict[str, Any] | None:
    """What `driver_parts` says, with the process's whole time; None if it took longer than `limit_s`."""
    output = folder / "parts.json"
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).with_name("driver_parts.py")), str(output), *arguments]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **OFFLINE, "PYTHONPATH": str(checkout)}
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()
            return None
    if code:
        sys.exit(f"{' '.join(arguments)} failed:\n{(folder / 'log.txt').read_text()[-4000:]}")
    return {**json.loads(output.read_text()), "process": time.perf_counter() - start}


def measure_all(folder: Path, checkout: Path, num_units: int, limit_s: float) -> dict[str, dict[str, Any]]:
    """By name of the command; after one that took too long, nothing follows."""
    store = folder / f"store-{num_units}"
    config, found = write_config(folder, num_units, str(store)), {}
    for name, arguments in {
        "dry run, nothing done": ["run", config, "--dry-run"],
        "run": ["run", config],
        "dry run, all done": ["run", config, "--dry-run"],
        "run that does nothing": ["run", config],
        "status": ["status", config],
    }.items():
        measured = measure(folder, checkout, arguments, limit_s)
        if measured is None:
            print(f"{num_units} units, {name}: stopped after {limit_s:.0f} s")
            return found
        found[name] = measured
        print_measured(f"{num_units} units, {name}", num_units, measured)
    with s3_with_latency() as requests:
        url = f"s3://artifacts/store-{num_units}"
        upload(store, url)
        config = write_config(folder, num_units, url)
        for name, arguments in {
            # A run of another name: it takes what the first run has done, and writes down what it has seen.
            "run on S3 that does nothing, first": ["run", config],
            "run on S3 that does nothing": ["run", config],
            "dry run on S3, all done": ["run", config, "--dry-run"],
            "status on S3": ["status", config],
        }.items():
            requests.clear()
            measured = measure(folder, checkout, arguments, limit_s)
            if measured is None:
                print(f"{num_units} units, {name}: stopped after {limit_s:.0f} s and {len(requests)} requests")
                continue
            found[name] = {**measured, "s3 requests": len(requests)}
            print(
                f"{num_units} units, {name}: {measured['process']:.1f} s, {_cpu(measured):.1f} s CPU, "
                f"{len(requests) / num_units:.3f} requests a unit"
            )
    return found


@contextmanager
def s3_with_latency() -> Iterator[list[str]]:
    """An S3 server that answers late, in the environment of this process and of those it starts; its requests."""
    requests: list[str] = []

    def late(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        requests.append(environ["REQUEST_METHOD"])
        time.sleep(LATENCY_S)
        return moto(environ, start_response)

    server = S3Server()
    os.environ |= {"AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    boto3.client("s3").create_bucket(Bucket="artifacts")
    server.fault = late
    try:
        yield requests
    finally:
        server.stop()


def upload(folder: Path, url: str) -> None:
    """The outputs before the records, as a store has them."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == "commit.json")
    with ThreadPoolExecutor(16) as threads:
        for is_record in (False, True):
            paths = [path for path in files if (path.name == "commit.json") == is_record]
            list(threads.map(lambda p: client.upload_file(str(p), bucket, f"{prefix}/{p.relative_to(folder)}"), paths))


def print_measured(title: str, num_units: int, measured: dict[str, Any]) -> None:
    wall, cpu = measured["wall"], measured["cpu"]
    print(f"\n{title}: {measured['process']:.1f} s, {_cpu(measured):.1f} s CPU, {measured['peak_mib']:.0f} MiB")
    for owner, parts in OWNERS.items():
        shown = [f"{part.removeprefix('Ray: ')} {wall[part]:.2f} ({cpu[part]:.2f})" for part in parts if part in wall]
        if shown:
            seconds, used = (_of(measured, kind, owner) for kind in KINDS)
            print(f"  {owner:10} {seconds:7.2f} s  {used:7.2f} s CPU   {', '.join(shown)}")
    further = {"other threads of the driver": cpu["other threads"], **measured["processes"]}
    print("  CPU elsewhere: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in further.items()))
    requests, calls = measured["requests"], measured["calls"]
    each = ", ".join(f"{name} {count}" for name, count in sorted(requests.items()))
    print(f"  store requests {sum(requests.values()) / num_units:.2f} a unit ({each})")
    hashed = [count for name, count in measured["hashed"].items() if name.startswith("text-")]
    print(f"  texts hashed {sum(hashed)} times ({len(hashed)} files), library versions read {calls.get('version', 0)}")


def print_further(few: int, many: int, found: dict[int, dict[str, dict[str, Any]]]) -> None:
    """The difference between two numbers of units, for each of the commands that both came to."""
    print(f"\neach further unit, from {few} to {many}, in ms (CPU in parentheses)")
    scale = 1000 / (many - few)
    for name, before in found[few].items():
        after = found[many].get(name)
        if after is None:
            continue
        whole = (after["process"] - before["process"]) * scale, (_cpu(after) - _cpu(before)) * scale
        parts = {owner: [_of(after, kind, owner) - _of(before, kind, owner) for kind in KINDS] for owner in OWNERS}
        shown = [f"{owner} {wall * scale:.2f} ({used * scale:.2f})" for owner, (wall, used) in parts.items()]
        elsewhere = {key: after["processes"][key] - value for key, value in before["processes"].items()}
        shown += [f"{key} ({seconds * scale:.2f})" for key, seconds in elsewhere.items()]
        print(f"  {name:22} {whole[0]:6.2f} ({whole[1]:.2f}): {', '.join(shown)}")


def _of(measured: dict[str, Any], kind: str, owner: str) -> float:
    return sum(measured[kind].get(part, 0.0) for part in OWNERS[owner])


def _cpu(measured: dict[str, Any]) -> float:
    return sum(measured["cpu"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--limit", type=float, default=900, help="seconds that one command may take")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--baseline", type=Path, help="another checkout, measured first")
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    everything = {}
    for checkout in [*([options.baseline.resolve()] if options.baseline else []), Path(__file__).parents[2]]:
        print(f"\n== {'before' if checkout != Path(__file__).parents[2] else 'after'}: {checkout}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_inputs(folder)
            found = {units: measure_all(folder, checkout, units, options.limit) for units in options.units}
        everything[str(checkout)] = found
        if len(options.units) > 1:
            print_further(options.units[0], options.units[-1], found)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
