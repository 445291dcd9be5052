"""The benchmark of one plan: base and plan on the same device, checked first, then timed in pairs.

`resident` keeps both engines loaded, each with its own KV budget, and one generates at a time. `reload` loads one at a
time, in alternating order, and measures everything in each load: for models of which two do not fit.
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
from drop_ray.serving.spec import ARMS, Arm, BenchSpec, Start

logger = logging.getLogger(__name__)

Pair = Mapping[Arm, Generation]
# By workload, comparison and the base's batch: the plan's may not be known yet.
Measured = dict[tuple[str, str, int], Generation]
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class BenchResult:
    """rows: of serving.parquet; facts: serving.json."""

    rows: list[dict[str, Any]]
    facts: dict[str, Any]


def run_bench(spec: BenchSpec, start: Start = EngineProcess) -> BenchResult:
    """Check both engines, then measure. GateError or EngineError if that fails; then there is no result at all."""
    mode = _Resident if spec.serving.mode == "resident" else _Reload
    with mode(spec, start) as running:
        pairs = running.measure()
    session = running.session
    return BenchResult([row for point in pairs for row in _rows(spec, point, pairs[point])], _facts(session))


class _Mode(ABC):
    def __init__(self, spec: BenchSpec, start: Start):
        self.session = Session(spec)
        self._start = start
        self._checks = Checks(spec, start)
        self._opened = ExitStack()
        self._engines: dict[Arm, Engine] = {}

    def __enter__(self) -> "_Mode":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @abstractmethod
    def measure(self) -> dict[Point, list[Pair]]: ...

    def _load(self, arm: Arm) -> Engine:
        """An engine that has passed the gate, if it is the arm's first."""
        engine = self._start(self.session.spec.settings(arm), f"the {arm}")
        self._opened.callback(engine.close)
        self._engines[arm] = engine.wait()
        if arm not in self.session.checks:
            self.session.facts[arm], self.session.checks[arm] = self._checks.check(arm, engine)
        return self._engines[arm]


class _Resident(_Mode):
    def measure(self) -> dict[Point, list[Pair]]:
        session, serving = self.session, self.session.spec.serving
        pairs: dict[Point, list[Pair]] = {}
        for arm in ARMS:
            self._load(arm)
        for workload in serving.workloads:
            session.sweep(self._engines["base"], workload)
            for point in session.points_of(workload):
                logger.info("%s: %d pairs", point.label, serving.pairs)
                for arm in ARMS:
                    session.warm_up(self._engines[arm], arm, point)
                for number, order in enumerate(alternating(serving.pairs)):
                    pair = _repeated_once(
                        partial(self._pair, point, order, number), f"{point.label}, pair {number + 1}"
                    )
                    pairs.setdefault(point, []).append(pair)
        session.peaks = {arm: self._engines[arm].peak_memory_bytes() for arm in ARMS}
        return pairs

    def _pair(self, point: Point, order: Sequence[Arm], number: int) -> Pair:
        for arm in ARMS:
            if not self._engines[arm].alive:
                self.session.warm_up(self._load(arm), arm, point)
        return {arm: self.session.generate(self._engines[arm], arm, point, number) for arm in order}


class _Reload(_Mode):
    def measure(self) -> dict[Point, list[Pair]]:
        pairs: dict[Point, list[Pair]] = {}
        for number, order in enumerate(alternating(self.session.spec.serving.pairs)):
            logger.info("round %d: %s, then %s", number + 1, *order)
            measured = _repeated_once(partial(self._round, order, number), f"round {number + 1}")
            for point in self.session.points():
                pair = {arm: measured[arm][point.workload.label, point.comparison, point.batch] for arm in ARMS}
                pairs.setdefault(point, []).append(pair)
        return pairs

    def _round(self, order: Sequence[Arm], number: int) -> dict[Arm, Measured]:
        return {arm: self._measure_loaded(arm, number) for arm in order}

    def _measure_loaded(self, arm: Arm, number: int) -> Measured:
        """All points in one load."""
        session = self.session
        with self._opened:
            engine = self._load(arm)
            for workload in session.spec.serving.workloads:
                if workload.label not in session.batches:  # in the first load of all, which is the base's
                    session.sweep(engine, workload)
            measured: Measured = {}
            for point in session.points():
                session.warm_up(engine, arm, point)
                generation = session.generate(engine, arm, point, number)
                measured[point.workload.label, point.comparison, point.batch] = generation
            session.peaks[arm] = max(session.peaks.get(arm, 0), engine.peak_memory_bytes())
        return measured


def _repeated_once(work: Callable[[], Outcome], what: str) -> Outcome:
    """An engine that dies once may have met a fault of the machine; twice in one place is its own."""
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
        spec.plan.drops,
        (point.batch, point.plan_batch),
        point.workload.prompt,
        point.workload.output,
        spec.plan_layer_bytes,
    )
    return list(rows_of(point, pairs, spec.serving, spec.control, prediction))


def _facts(session: Session) -> dict[str, Any]:
    spec, base, plan = session.spec, session.facts["base"], session.facts["plan"]
    base_kv, plan_kv = (spec.size.kv_bytes_per_token(spec.settings(arm).drops) for arm in ARMS)
    return {
        "gate": session.checks["plan"],
        "kv": {
            "base_tokens": base.kv_tokens,
            "plan_tokens": plan.kv_tokens,
            "base_blocks": base.kv_blocks,
            "plan_blocks": plan.kv_blocks,
            "block_size": base.block_size,
            "predicted_ratio": base_kv / plan_kv if plan_kv else None,
            "bytes_per_token_base": base.kv_bytes_per_token,
            "bytes_per_token_plan": plan.kv_bytes_per_token,
            "layers": list(plan.kv_layers),
        },
        "memory": {
            "base_weights_bytes": base.weights_bytes,
            "plan_weights_bytes": plan.weights_bytes,
            "base_peak_bytes": session.peaks["base"],
            "plan_peak_bytes": session.peaks["plan"],
        },
        "engine": {
            "name": spec.serving.engine,
            "version": plan.version,
            "device": plan.device,
            "settings": asdict(spec.plan),
        },
    }
