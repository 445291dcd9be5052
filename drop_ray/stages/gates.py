"""The stage gates: what every variant must still be able to do, and how far strategies can go until one stops them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drop_ray.config import RunConfig
from drop_ray.config.gates import GatesConfig
from drop_ray.errors import UserError
from drop_ray.evaluation.gates import repetition
from drop_ray.evaluation.gates.battery import ask
from drop_ray.evaluation.gates.result import Answers, read_answers
from drop_ray.evaluation.gates.verdict import Verdict, judge
from drop_ray.evaluation.gates.writer import Writer
from drop_ray.job import steps
from drop_ray.job.artifacts import GATE_ITEMS, GATES
from drop_ray.job.expected import Phase
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit, WorkerRequest
from drop_ray.job.worker import Worker
from drop_ray.models.dropped import end_ids, read_config, special_ids
from drop_ray.models.location import load_tokenizer
from drop_ray.planning.variants import Variant, distinct
from drop_ray.stages import cliffs, evaluate
from drop_ray.stages.engine_evaluated import EngineRequest, engine_request
from drop_ray.stages.evaluated import Evaluated, asked
from drop_ray.stages.evaluation_cost import loading
from drop_ray.store import Commit
from drop_ray.store.tables import write_table

# Tokens of an item of the gates that are not about a length: the prompt and its answers.
SHORT_TOKENS, SHORT_GATES = 96, 3


@dataclass(frozen=True)
class GatesUnit(Unit):
    """All gates of one variant."""

    variant: Variant
    """The variant that is asked."""
    made: Commit | None = None
    """Commit of the variant's own checkpoint, if it has one; set when the unit is sent."""
    engine: EngineRequest | None = None
    """The engine that evaluates it; None for transformers; set when the unit is sent."""

    @property
    def model_key(self) -> object:
        return self.variant

    def bound(self, run: RunState) -> "GatesUnit":
        return replace(self, made=run.made(self.variant), engine=engine_request(run))

    def work(self, worker: Worker) -> Commit:
        config = worker.setup.evaluation.gates
        assert config is not None, "the run has gates"
        writer, stop = _writer(worker)

        def put(model: Evaluated) -> Answers:
            return ask(config, writer, stop, model.tokens, worker.log_progress("gates"))

        answers, measured = asked(worker, self.variant, self.made, self.engine, f"gates of {self.name}", put)
        with tempfile.TemporaryDirectory() as folder:
            summary, items = Path(folder) / GATES, Path(folder) / GATE_ITEMS
            summary.write_text(answers.to_json())
            write_table(answers.items(), items)
            return worker.commit(self.step, {GATES: summary, GATE_ITEMS: items}, measured)


def _writer(worker: Worker) -> tuple[Writer, tuple[int, ...]]:
    """What writes the gates in the tokens of the run's model, and the ids that end a text."""
    checkpoint = worker.checkpoint()
    config = read_config(checkpoint)
    ends = end_ids(config)
    try:
        tokenizer = load_tokenizer(checkpoint.folder)
    except UserError as error:
        writer = Writer(None, config.vocab_size, special_ids(config), config.bos_token_id, str(error))
    else:
        writer = Writer(tokenizer, config.vocab_size)
        ends |= {tokenizer.eos_token_id} - {None}
    return writer, tuple(sorted(ends))


def _run(run: RunState) -> None:
    ask_gates(run, run.variants)
    config = run.job.config.evaluation.gates
    if config is not None:
        cliffs.find_cliffs(run, config.cliffs, lambda variants: verdicts(run, config, variants, "gates, cliffs"))


def ask_gates(run: RunState, variants: Sequence[Variant]) -> None:
    """Ask the base and the variants that get tasks, and take up the verdicts. Equal variants are asked once."""
    config = run.job.config.evaluation.gates
    if config is None:
        return
    kept = [variant for variant in variants if run.screened.get(variant.name, (True, ""))[0]]
    for variant, verdict in zip(kept, verdicts(run, config, kept), strict=True):
        if verdict is not None:
            run.verdicts[variant.name] = verdict


def verdicts(
    run: RunState, config: GatesConfig, variants: Sequence[Variant], line: str = "gates"
) -> list[Verdict | None]:
    """The verdict on each variant against the base; None, in a dry run, where the answers are still to come."""
    stage = ENGINE_STAGE if run.job.config.evaluation.backend == "vllm" else STAGE
    everything = distinct([run.base, *variants])
    units = [GatesUnit(variant.name, steps.gates_step(run.job, variant), line, variant) for variant in everything]
    commits = dict(zip(everything, run.complete(stage, units), strict=True))
    of_base = commits[run.base]
    if of_base is None:
        return [None] * len(variants)
    base = _read(run, of_base)
    return [
        None if commit is None else judge(base, _read(run, commit), config.tolerance, config.confidence)
        for commit in (commits[variant] for variant in variants)
    ]


def _read(run: RunState, commit: Commit) -> Answers:
    store = run.job.store
    with store.discarded_if_corrupt(commit):
        return read_answers(store.read_bytes(commit, GATES), run.read_table(commit, GATE_ITEMS))


def _workers(run: RunState, todo: Sequence[Unit]) -> WorkerRequest:
    return evaluate.variant_workers(run, [unit.variant for unit in todo if isinstance(unit, GatesUnit)])


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """Every variant is loaded, with one forward pass of each prompt, whose candidates share it, and of what it says."""
    del line
    job, config = run.job, run.job.config.evaluation.gates
    assert config is not None, "the run has gates"
    limit = job.config.evaluation.max_length or job.size.max_positions
    lengths = [length for length in config.needle_lengths if limit is None or length <= limit]
    lengths += [SHORT_TOKENS] * SHORT_GATES + [repetition.PROMPT + config.generated_tokens]
    variants = [unit.variant for unit in todo if isinstance(unit, GatesUnit)]
    flops = sum(
        job.size.forward_flops(variant.drops, config.num_items * length, length)
        for variant in variants
        for length in lengths
    )
    phases = (Phase(flops), *(loading(job, variant) for variant in variants))
    longer = [f"{length:,}" for length in config.needle_lengths if length not in lengths]
    note = f"needles of {', '.join(longer)} tokens are skipped" if longer else ""
    return Cost(flops=flops, note=note, phases=phases)


def _check(config: RunConfig) -> None:
    if config.evaluation.gates is None:
        raise UserError("evaluation.gates: the config has no such section; `gates: {}` asks them as they are")


STAGE = Stage(
    "gates",
    "variants",
    _run,
    workers=_workers,
    cost=_cost,
    check_last=_check,
)
ENGINE_STAGE = replace(
    STAGE,
    workers=evaluate.engine_workers,
    goes_on=evaluate.ENGINE_STAGE.goes_on,
)
