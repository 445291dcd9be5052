"""Faults in the middle of a run: `python tests/runtime/faults.py` prints a table.

Workers, nodes and drivers are killed on a Ray cluster of three nodes; `further_faults` has what else goes wrong. The
driver is a `drop-ray run` of its own, the cluster outlives it. What decides when a fault comes is the store: the first
committed record of a stage, of which many units are left then. A fault is survived if the finished run has the bytes of
an undisturbed one, and every record that stood when the fault came is still the same attempt's.
"""

import argparse
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from fault_run import POINTS, FaultRun, TinyCluster, busy_workers
from further_faults import FURTHER
from tiny_run import write_inputs

FAULTS = ("worker", "node", "driver")
EVERY = (*FAULTS, *FURTHER)


@dataclass(frozen=True)
class Row:
    """found: units done when the fault came; redone: units given out a second time, because their worker was lost or
    because two drivers had them in hand;
    repeated: units that were done and yet done again; identical: whether the finished run has the undisturbed bytes."""

    fault: str
    point: str
    found: int
    redone: int
    repeated: int
    identical: bool


def disturb(run: FaultRun, cluster: TinyCluster, fault: str, point: str, undisturbed: dict[str, str]) -> Row:
    """Start a run, let the fault happen at the point, finish it, and compare."""
    before = run.start().wait_for(point)
    in_flight = 0
    if fault == "worker":
        cluster.kill_a_busy_worker()
    elif fault == "node":
        cluster.kill_node()
    else:
        in_flight = len(busy_workers())
        run.driver.kill()
        run.driver.wait()
        before = run.attempts()
        run.start()
    assert run.finish() == 0, run.log.read_text()
    redone = len(re.findall(r"worker lost, attempt", run.log.read_text())) if fault != "driver" else in_flight
    return row_of(fault, point, run, before, redone, undisturbed)


def row_of(
    fault: str, point: str, run: FaultRun, before: dict[str, str], redone: int, undisturbed: dict[str, str]
) -> Row:
    after = run.attempts()
    repeated = sum(after[name] != attempt for name, attempt in before.items())
    assert len(before) < len(after), "the fault came too late"
    return Row(fault, point, len(before), redone, repeated, run.results() == undisturbed)


def undisturbed_results(inputs: Path, folder: Path) -> dict[str, str]:
    with TinyCluster() as cluster:
        run = FaultRun(cluster, inputs, folder).start()
        assert run.finish() == 0, run.log.read_text()
        return run.results()


def rows(folder: Path, faults: tuple[str, ...], points: tuple[str, ...]):
    """Yield a Row for every fault at every point; one cluster each, since a fault leaves it smaller."""
    inputs = write_inputs(folder)
    undisturbed = undisturbed_results(inputs, folder / "undisturbed")
    for fault in faults:
        if fault in FURTHER:
            point, let_happen = FURTHER[fault]
            run, before, redone = let_happen(inputs, folder / fault.replace(" ", "-"))
            yield row_of(fault, point, run, before, redone, undisturbed)
            continue
        for point in points:
            with TinyCluster() as cluster:
                run = FaultRun(cluster, inputs, folder / f"{fault}-{point}")
                yield disturb(run, cluster, fault, point, undisturbed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fault", choices=EVERY, nargs="+", default=EVERY)
    parser.add_argument("--point", choices=tuple(POINTS), nargs="+", default=tuple(POINTS))
    options = parser.parse_args()
    form = "{:11}  {:10}  {:>11}  {:>12}  {:>16}  {}"
    print(form.format("fault", "during", "done before", "units redone", "done units again", "identical"), flush=True)
    survived = True
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), tuple(options.fault), tuple(options.point)):
            survived &= row.identical and not row.repeated
            answer = "yes" if row.identical else "no"
            print(form.format(row.fault, row.point, row.found, row.redone, row.repeated, answer), flush=True)
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
