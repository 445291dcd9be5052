"""Makes rows of the report from the verdicts of the damage gates, and from the cliffs."""

from collections.abc import Iterator

from drop_ray.job.run_state import RunState
from drop_ray.report.gate_rows import CliffRow, GateRow, VerdictRow
from drop_ray.stages.cliffs import plan_file


def verdict_rows(run: RunState) -> Iterator[VerdictRow]:
    config = run.job.config.evaluation.gates
    for variant, verdict in run.verdicts.items():
        assert config is not None, "its gates were asked"
        yield VerdictRow(variant, verdict.outcome, verdict.reason, config.tolerance, config.confidence)


def gate_rows(run: RunState) -> Iterator[GateRow]:
    for variant, verdict in run.verdicts.items():
        for found in verdict.gates:
            loss = found.loss
            yield GateRow(
                variant=variant,
                gate=found.gate,
                title=found.title,
                outcome=found.outcome,
                reason=found.reason,
                items=found.items,
                chance=found.chance,
                base=found.base,
                share=found.variant,
                loss=loss.value if loss else None,
                low=loss.low if loss else None,
                high=loss.high if loss else None,
            )


def cliff_rows(run: RunState) -> Iterator[CliffRow]:
    for cliff in run.cliffs:
        yield CliffRow(
            strategy=cliff.strategy,
            counts=cliff.num_counts,
            largest=cliff.largest,
            fails=cliff.fails,
            reason=cliff.reason,
            asked=cliff.asked,
            known=cliff.known,
            plan=plan_file(cliff.plan) if cliff.plan else None,
            drop_attn=cliff.drop_attn,
            drop_mlp=cliff.drop_mlp,
        )
