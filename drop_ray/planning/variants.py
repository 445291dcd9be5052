"""What is evaluated and served: a plan in 16 bits, or quantized by a line of the config's `quantization`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drop_ray.config import QuantizationSpec
from drop_ray.models.families import DropLists
from drop_ray.planning.plans import BASE, DropPlan


@dataclass(frozen=True)
class Variant:
    """spec: None of the plan as it is, in the run's own dtype."""

    plan: DropPlan
    spec: QuantizationSpec | None = None

    @property
    def name(self) -> str:
        """`attention-4`, `attention-4-awq`."""
        return variant_name(self.plan.name, self.spec)

    @property
    def drops(self) -> DropLists:
        return self.plan.drops


def variant_name(plan: str, spec: QuantizationSpec | None) -> str:
    return f"{plan}-{spec.label}" if spec else plan


def quantized_variants(
    base: DropPlan, plans: Sequence[DropPlan], specs: Sequence[QuantizationSpec]
) -> Iterator[Variant]:
    """The base, and every plan that the config names, by each of its lines."""
    for spec in specs:
        for plan in (base, *plans):
            if is_quantized(plan.name, spec):
                yield Variant(plan, spec)


def quantized_names(plans: Sequence[str], specs: Sequence[QuantizationSpec]) -> list[str]:
    """What `quantized_variants` of plans with these names would be called; the base's too, if it is among them."""
    return [variant_name(plan, spec) for spec in specs for plan in plans if is_quantized(plan, spec)]


def is_quantized(plan: str, spec: QuantizationSpec) -> bool:
    return plan == BASE or spec.plans == "all" or plan in spec.plans


def distinct(variants: Sequence[Variant]) -> list[Variant]:
    """Plans with equal drop lists are one model: the first stands for the others."""
    first: dict[tuple[DropLists, QuantizationSpec | None], Variant] = {}
    for variant in variants:
        first.setdefault((variant.drops, variant.spec), variant)
    return list(first.values())
