"""Pairs of variants: whether the tasks tell them apart, and whether KL does."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from drop_ray.evaluation.divergence.panel import kl_difference
from drop_ray.report.divergence import SEPARATED, kl_by_sample
from drop_ray.report.results import Results, grouped
from drop_ray.report.statistics import averaged_tasks, averages, documents_by_task, paired_average

NORMAL_95 = 1.96


@dataclass(frozen=True)
class ToldApartRow:
    """Two variants, neither quantized, by their tasks and by their KL to the base."""

    nearer: str
    """The one with the smaller KL to the base."""
    farther: str
    """The other."""
    task_difference: float
    """Mean over tasks of farther less nearer, paired by document."""
    task_low: float
    """Lower end of its 95 % interval."""
    task_high: float
    """Upper end."""
    documents: int
    """Documents that both have."""
    kl_difference: float
    """Mean KL of farther less nearer, in nats per token, paired by sample."""
    kl_stderr: float
    """Its standard error over samples."""
    kl_standard_errors: float
    """How many standard errors lie between the two."""

    @property
    def by_tasks(self) -> bool:
        """Whether the interval of the tasks leaves out 0."""
        return not self.task_low <= 0 <= self.task_high

    @property
    def by_kl(self) -> bool:
        """Whether the difference in KL is at least three standard errors."""
        return self.kl_standard_errors >= SEPARATED


def told_apart(results: Results) -> Iterator[ToldApartRow]:
    """A row for each pair that has an average, common documents and a panel each; of equal variants the first."""
    results = results.unquantized()
    samples, evaluated = kl_by_sample(results), averages(results)
    tasks, documents = averaged_tasks(results), documents_by_task(results)
    known = [row for row in results.divergences if row.variant in evaluated]
    equal = grouped(known, lambda row: tuple(samples[row.variant].values()))
    panels = sorted((rows[0] for rows in equal.values()), key=lambda row: row.kl)
    for one, other in combinations((row.variant for row in panels), 2):
        of_tasks = paired_average(documents, other, one, tasks)
        if of_tasks is None or of_tasks.stderr is None:
            continue
        of_kl, half = kl_difference(samples[other], samples[one]), NORMAL_95 * of_tasks.stderr
        yield ToldApartRow(
            nearer=one,
            farther=other,
            task_difference=of_tasks.value,
            task_low=of_tasks.value - half,
            task_high=of_tasks.value + half,
            documents=of_tasks.num_documents,
            kl_difference=of_kl.value,
            kl_stderr=of_kl.stderr,
            kl_standard_errors=of_kl.standard_errors,
        )
