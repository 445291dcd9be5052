"""Variants as drafts of the base: a part of the stage bench. A unit is a draft with a number of drafted tokens.

Greedy decoding is always measured. Sampling is where `stages/draft_sampling.py` has found that it may be.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drop_ray.calibration import packing
from drop_ray.config import ServingConfig
from drop_ray.config.drafts import DraftsConfig
from drop_ray.job import steps
from drop_ray.job.artifacts import CHECKPOINT, DRAFT, SAMPLES
from drop_ray.job.expected import Phase
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Share, Sweep, Unit
from drop_ray.job.worker import Worker
from drop_ray.models.forward_pass import decode_step, prefill_step
from drop_ray.planning.variants import Variant, distinct
from drop_ray.serving.draft_bench import DraftSpec, run_drafts
from drop_ray.serving.preflight import kv_shards
from drop_ray.serving.speculation import link_draft
from drop_ray.stages.engine_units import EngineUnit, of_run
from drop_ray.stages.engines import gate_text, prompt_tokens, variant_folder
from drop_ray.store import Commit
from drop_ray.store.tables import read_table


@dataclass(frozen=True)
class DraftUnit(EngineUnit):
    """One draft of the base, the variant, with one number of drafted tokens; of the base without any, the control."""

    num_drafted: int = 0
    """Drafted tokens before each step; 0 for the control."""
    temperature: float = 0
    """At which tokens are drawn; 0 is greedy."""
    prompts: Sequence[Sequence[int]] = ()
    """Prompts of all pairs; set when the unit is sent."""

    def bound(self, run: RunState) -> "DraftUnit":
        drafts = drafts_of(self.serving)
        return replace(
            self,
            text=gate_text(run, drafts.model_len),
            prompts=draft_prompts(run, self.serving.pairs * drafts.batch_size, drafts.prompt),
            made=run.made(self.variant),
        )

    def work(self, worker: Worker) -> Commit:
        (commit,) = DraftShare((self,)).sweep(worker)
        return commit


@dataclass(frozen=True)
class DraftShare(Sweep):
    """The numbers of drafted tokens of one draft, which share the base's engine."""

    units: tuple[DraftUnit, ...]
    """The units."""

    @property
    def name(self) -> str:
        one = self.units[0]
        return f"{one.variant.name} as a draft{at(one.temperature)}" if one.num_drafted else one.label

    @property
    def kind(self) -> str:
        return self.units[0].kind

    def sweep(self, worker: Worker) -> list[Commit]:
        commits = []
        with draft_folders(worker, self.units[0]) as (folder, weights):
            spec = draft_spec(worker, self.units[0], folder, weights)
            progress = worker.log_progress("numbers of drafted tokens")
            for unit, found in zip(
                self.units, run_drafts(spec, [unit.num_drafted for unit in self.units]), strict=True
            ):
                commits.append(_commit(worker, unit, found))
                progress(len(commits), len(self.units))
        return commits


def draft_units(run: RunState, temperature: float = 0) -> list[DraftUnit]:
    """The units of a run at a temperature, of greedy decoding the control first.

    None without `serving.drafts`, or in a run without variants.
    """
    job, serving = run.job, run.job.config.serving
    if serving is None or serving.drafts is None or not run.variants:
        return []
    wanted = [(variant, tokens) for variant in distinct(chosen_drafts(run)) for tokens in serving.drafts.tokens]
    control = [(run.base, 0)] if wanted and not temperature else []
    return [
        DraftUnit(
            label=f"{variant.name} as a draft, k = {tokens}{at(temperature)}"
            if tokens
            else "the base without a draft, twice",
            step=steps.draft_step(job, variant, tokens, temperature),
            line="drafts",
            variant=variant,
            num_drafted=tokens,
            temperature=temperature,
            **of_run(run),
        )
        for variant, tokens in [*control, *wanted]
    ]


def at(temperature: float) -> str:
    """The end of a label; empty for greedy decoding."""
    return f", at temperature {temperature:g}" if temperature else ""


def chosen_drafts(run: RunState) -> list[Variant]:
    """The variants that draft: those that the config names, which may be the base itself, or all but the base."""
    serving = run.job.config.serving
    assert serving is not None
    names = drafts_of(serving).plans
    everything = (run.base, *run.variants)
    return [one for one in everything if (one != run.base if names == "all" else one.name in names)]


def measure_drafts(run: RunState, stage: Stage, temperature: float = 0) -> None:
    """Have all drafts measured at a temperature that are not, and take up what was found."""
    units = draft_units(run, temperature)
    commits = run.complete(replace(stage, noun="drafts", shares=_shares, cost=draft_costs), units)
    for unit, commit in zip(units, commits, strict=True):
        if commit is not None:
            found = json.loads(run.job.store.read_bytes(commit, DRAFT))
            run.drafts.setdefault(unit.variant.name, []).append(found)


def draft_prompts(run: RunState, count: int, length: int) -> list[list[int]]:
    """Pieces of a text, spread evenly over it: of that on which predictions are compared, where it has enough of them,
    or of the calibration samples."""
    sources = [run.calibrated.committed]
    if run.job.config.evaluation.divergence is not None:
        sources.insert(0, run.ledger.commit_of(steps.divergence_text_step(run.job)))
    for commit in sources:
        samples = packing.from_table(read_table(run.job.store, commit, SAMPLES))
        pieces = samples[:, : samples.shape[1] // length * length].reshape(-1, length)
        if len(pieces) >= count:
            chosen: list[list[int]] = pieces[np.linspace(0, len(pieces) - 1, count).astype(int)].tolist()
            return chosen
    raise AssertionError("a run with too few pieces is refused")


def drafts_of(serving: ServingConfig) -> DraftsConfig:
    assert serving.drafts is not None, "there are no drafts"
    return serving.drafts


@contextmanager
def draft_folders(worker: Worker, unit: DraftUnit) -> Iterator[tuple[str, Path | None]]:
    """The folder that vLLM loads the draft from, empty for the control; and that of its own weights, if it has any."""
    if not unit.num_drafted:
        yield "", None
        return
    with variant_folder(worker, unit.variant, unit.made) as weights:
        if weights is not None:
            yield str(weights), weights
            return
        with tempfile.TemporaryDirectory() as scratch:
            linked = Path(scratch) / CHECKPOINT
            link_draft(worker.checkpoint(), unit.variant.drops, linked)
            yield str(linked), None


def draft_spec(worker: Worker, unit: DraftUnit, folder: str, weights: Path | None) -> DraftSpec:
    """What to measure of a unit's draft, with its folders."""
    drafts, checkpoint = drafts_of(unit.serving), worker.checkpoint()
    base = replace(unit.settings(worker, unit.base.drops, drafts.model_len, drafts.batch_size), kind="vllm")
    draft = replace(base, drops=unit.variant.drops) if unit.num_drafted else None
    if draft is not None and weights is not None:
        quantized = unit.variant.remake is not None
        draft = replace(draft, folder=str(weights), own_drops=unit.variant.drops, quantized=quantized)
    return DraftSpec(
        serving=unit.serving,
        base=base,
        draft=draft,
        draft_folder=folder,
        size=unit.size,
        tokens=prompt_tokens(worker)[0],
        text=unit.text,
        prompts=unit.prompts,
        kv_shards=kv_shards(checkpoint.config, unit.tensor_parallel),
        temperature=unit.temperature,
    )


def _commit(worker: Worker, unit: DraftUnit, found: object) -> Commit:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DRAFT
        path.write_text(json.dumps(found, indent=1, sort_keys=True))
        return worker.commit(unit.step, {DRAFT: path})


def _shares(run: RunState, todo: Sequence[Unit]) -> Sequence[Share]:
    """A share for each draft."""
    del run
    by_draft: dict[tuple[Variant, bool], list[DraftUnit]] = {}
    for unit in todo:
        if isinstance(unit, DraftUnit):
            by_draft.setdefault((unit.variant, unit.num_drafted == 0), []).append(unit)
    return [DraftShare(tuple(units)) for units in by_draft.values()]


def draft_costs(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """At most: as if no drafted token were kept."""
    del line
    vocab_size = run.job.vocab_size
    phases = [phase for unit in todo if isinstance(unit, DraftUnit) for phase in _phases(unit, vocab_size)]
    return Cost(
        flops=round(sum(phase.flops for phase in phases)), note="vllm, at most" if phases else "", phases=tuple(phases)
    )


def _phases(unit: DraftUnit, vocab_size: int) -> Iterator[Phase]:
    size, drafts, pairs = unit.size, drafts_of(unit.serving), unit.serving.pairs
    width = unit.variant.remake.bytes_per_weight if unit.variant.remake else None
    batch, context, steps_taken = drafts.batch_size, drafts.prompt + drafts.output // 2, pairs * drafts.output
    weights = size.kept_parameters(unit.base.drops) * size.bytes_per_parameter
    yield Phase(loaded=2 * weights, starts=2)
    for variant, layer_bytes, each in ((unit.base, None, 2), (unit.variant, width, unit.num_drafted)):
        prefill = prefill_step(size, vocab_size, variant.drops, batch, drafts.prompt, layer_bytes)
        decode = decode_step(size, vocab_size, variant.drops, batch, context, layer_bytes)
        yield Phase(prefill.flops * pairs, prefill.num_bytes * pairs)
        yield Phase(decode.flops * steps_taken * each, decode.num_bytes * steps_taken * each)
