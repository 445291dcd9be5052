"""The benchmark of one variant: base and variant on the same device, checked first, then timed in pairs.

`resident` keeps both engines loaded, each with its own KV budget, and one generates at a time. `reload` is for models
that do not fit twice: it loads one at a time, in alternating order, and measures everything in each load.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from drop_ray.serving.checks import Checks
from drop_ray.serving.engine import Engine, EngineError, Generation
from drop_ray.serving.engine_process import EngineProcess
from drop_ray.serving.pairs import Point, alternating, rows_of
from drop_ray.serving.roofline import predict
from drop_ray.serving.session import Session
from drop_ray.serving.spec import SIDES, BenchSpec, Side, Start
from drop_ray.text.progress import ignore_progress

logger = logging.getLogger(__name__)

Pair = Mapping[Side, Generation]
# Keys are workload, comparison and the base's batch size, since the variant's may not be known yet.
Measured = dict[tuple[str, str, int], Generation]
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class BenchResult:
    """The result of a benchmark."""

    rows: list[dict[str, Any]]
    """Rows of serving.parquet."""
    facts: dict[str, Any]
    """Content of serving.json."""


def run_bench(
    spec: BenchSpec, start: Start = EngineProcess, progress: Callable[[int, int], None] = ignore_progress
) -> BenchResult:
    """Check both engines, then measure. `progress` is told how many pairs of how many are measured.

    If either fails, GateError or EngineError is raised and there is no result at all.
    """
    mode = _Resident if spec.serving.mode == "resident" else _Reload
    with mode(spec, start, progress) as running:
        pairs = running.measure()
    session = running.session
    return BenchResult([row for point in pairs for row in _rows(spec, point, pairs[point])], _facts(session))


class _Mode(ABC):
    def __init__(self, spec: BenchSpec, start: Start, progress: Callable[[int, int], None]):
        self.session = Session(spec)
        self._start, self._progress = start, progress
        self._checks = Checks(spec, start)
        self._opened = ExitStack()
        self._engines: dict[Side, Engine] = {}

    def __enter__(self) -> "_Mode":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @abstractmethod
    def measure(self) -> dict[Point, list[Pair]]: ...

    def _load(self, side: Side) -> Engine:
        """A loaded engine. The first one of each side has passed the gate."""
        engine = self._start(self.session.spec.settings(side), f"the {side}")
        self._opened.callback(engine.close)
        self._engines[side] = engine.wait()
        if side not in self.session.checks:
            self.session.facts[side], self.session.checks[side] = self._checks.check(side, engine)
        return self._engines[side]


class _Resident(_Mode):
    def measure(self) -> dict[Point, list[Pair]]:
        session, serving = self.session, self.session.spec.serving
        pairs: dict[Point, list[Pair]] = {}
        for side in SIDES:
            self._load(side)
        for position, workload in enumerate(serving.workloads):
            session.sweep(self._engines["base"], workload)
            points = session.points_of(workload)
            for place, point in enumerate(points):
                logger.info("%s: %d pairs", point.label, serving.pairs)
                for side in SIDES:
                    session.warm_up(self._engines[side], side, point)
                for number, order in enumerate(alternating(serving.pairs)):
                    pair = _repeated_once(
                        partial(self._pair, point, order, number), f"{point.label}, pair {number + 1}"
                    )
                    pairs.setdefault(point, []).append(pair)
                    # Further workloads may have other points, which are known only after their sweep.
                    done = (position * len(points) + place) * serving.pairs + number + 1
                    self._progress(done, len(serving.workloads) * len(points) * serving.pairs)
        session.peaks = {side: self._engines[side].peak_memory_bytes() for side in SIDES}
        return pairs

    def _pair(self, point: Point, order: Sequence[Side], number: int) -> Pair:
        for side in SIDES:
            if not self._engines[side].alive:
                self.session.warm_up(self._load(side), side, point)
        return {side: self.session.generate(self._engines[side], side, point, number) for side in order}


class _Reload(_Mode):
    def measure(self) -> dict[Point, list[Pair]]:
        pairs: dict[Point, list[Pair]] = {}
        for number, order in enumerate(alternating(self.session.spec.serving.pairs)):
            logger.info("round %d: %s, then %s", number + 1, *order)
            measured = _repeated_once(partial(self._round, order, number), f"round {number + 1}")
            for point in self.session.points():
                pair = {side: measured[side][point.workload.label, point.comparison, point.batch] for side in SIDES}
                pairs.setdefault(point, []).append(pair)
            self._progress(number + 1, self.session.spec.serving.pairs)
        return pairs

    def _round(self, order: Sequence[Side], number: int) -> dict[Side, Measured]:
        return {side: self._measure_loaded(side, number) for side in order}

    def _measure_loaded(self, side: Side, number: int) -> Measured:
        """Measure all points in one load."""
        session = self.session
        with self._opened:
            engine = self._load(side)
            for workload in session.spec.serving.workloads:
                if workload.label not in session.batches:  # in the first load of all, which is the base's
                    session.sweep(engine, workload)
            measured: Measured = {}
            for point in session.points():
                session.warm_up(engine, side, point)
                generation = session.generate(engine, side, point, number)
                measured[point.workload.label, point.comparison, point.batch] = generation
            session.peaks[side] = max(session.peaks.get(side, 0), engine.peak_memory_bytes())
        return measured


def _repeated_once(work: Callable[[], Outcome], what: str) -> Outcome:
    """Do the work again if its engine dies.

    One death may be a fault of the machine, a second one is the engine's own.
    """
    try:
        return work()
    except EngineError as error:
        logger.warning("%s is repeated: %s", what, error)
        return work()


def _rows(spec: BenchSpec, point: Point, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    prediction = predict(
        spec.size,
        spec.vocab_size,
        spec.base.drops,
        spec.variant.drops,
        (point.batch, point.variant_batch),
        point.workload.prompt,
        point.workload.output,
        spec.variant_layer_bytes,
    )
    return list(rows_of(point, pairs, spec.serving, spec.control, prediction))


def _facts(session: Session) -> dict[str, Any]:
    """Content of serving.json; its keys call the variant `plan`."""
    spec, base, variant = session.spec, session.facts["base"], session.facts["variant"]
    base_kv, variant_kv = (spec.size.kv_bytes_per_token(spec.settings(side).drops) for side in SIDES)
    return {
        "gate": session.checks["variant"],
        "kv": {
            "dtype": spec.variant.kv_cache_dtype,
            "base_tokens": base.kv_tokens,
            "plan_tokens": variant.kv_tokens,
            "base_blocks": base.kv_blocks,
            "plan_blocks": variant.kv_blocks,
            "block_size": base.block_size,
            "predicted_ratio": base_kv / variant_kv if variant_kv else None,
            "bytes_per_token_base": base.kv_bytes_per_token,
            "bytes_per_token_plan": variant.kv_bytes_per_token,
            "layers": list(variant.kv_layers),
        },
        "memory": {
            "base_weights_bytes": base.weights_bytes,
            "plan_weights_bytes": variant.weights_bytes,
            "base_peak_bytes": session.peaks["base"],
            "plan_peak_bytes": session.peaks["variant"],
        },
        "engine": {
            "name": spec.serving.engine,
            "version": variant.version,
            "device": variant.device,
            "settings": asdict(spec.variant),
        },
    }
