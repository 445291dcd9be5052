"""The limits of one plan on one model: whether they hold, and which of them cannot be reached."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from drop_ray.config.hardware import HardwareSpec
from drop_ray.config.limits import LimitSpec
from drop_ray.errors import UserError
from drop_ray.planning.budgets.resources import (
    Resource,
    Setting,
    kv_bytes_per_token,
    request_seconds,
    sub_layers,
    weight_bytes,
)
from drop_ray.planning.modules import PLURALS, Module
from drop_ray.text.quantities import Quantity, rounded_down

SPEEDUP = "speedup"


@dataclass(frozen=True)
class Limit:
    """One limit, on the resource that it is of."""

    name: str
    """Its key in the config, such as `bytes`."""
    quantity: Quantity
    """What the config gives."""
    resource: Resource
    """What is limited; of a speedup, the seconds of the requests."""

    @property
    def most(self) -> float:
        """What may be left at most."""
        if self.name == SPEEDUP:
            return self.resource.base / self.quantity.value()
        return self.quantity.value(self.resource.base)

    @property
    def needed(self) -> float:
        """What dropping has to save at least."""
        return self.resource.undropped - self.most

    def holds(self, dropped: Collection[Module]) -> bool:
        return self.resource.left(dropped) <= self.most

    @property
    def bound(self) -> float:
        """The limit as a number, for people: of a speedup the factor itself."""
        return self.value_of(self.most)

    def value(self, dropped: Collection[Module]) -> float:
        """What is left without the modules, or how many times as fast as the base that is."""
        return self.value_of(self.resource.left(dropped))

    def value_of(self, left: float) -> float:
        """The same of an amount that is left."""
        return self.resource.base / left if self.name == SPEEDUP else left

    def nearest(self, left: float) -> str:
        """The tightest quantity in the config's unit that a model with so much left keeps."""
        if self.name == SPEEDUP:
            return f"{rounded_down(self.value_of(left))}x"
        return self.quantity.at_least(left, self.resource.base)


def limits_of(spec: LimitSpec, setting: Setting, hardware: HardwareSpec | None, field: str) -> tuple[Limit, ...]:
    """The limits of a plan's line. UserError, which begins with `field`, for a speedup without stated hardware."""
    resources = {"bytes": weight_bytes, "kv_bytes_per_token": kv_bytes_per_token, "sub_layers": sub_layers}
    limits = []
    for name, quantity in spec.quantities.items():
        if name == SPEEDUP:
            assert spec.at is not None  # the config was refused otherwise
            if hardware is None:
                raise UserError(
                    f"{field}.speedup: seconds are reckoned for a stated GPU; name the one that the model is to be "
                    "served on, as execution: {hardware: h100}"
                )
            limits.append(Limit(name, quantity, request_seconds(setting, spec.at, hardware)))
        else:
            limits.append(Limit(name, quantity, resources[name](setting)))
    return tuple(limits)


def check_limits(
    limits: Sequence[Limit], candidates: Collection[Module], what: str, field: str, quantized: str | None = None
) -> None:
    """UserError, which begins with `field`, if a limit cannot be reached, or if all hold with nothing dropped.

    candidates: everything that may be dropped; what: their name for people, such as `attention layers and MLPs`;
    quantized: name of the quantization after which the limits are to hold.
    """
    after = f" after {quantized}" if quantized else ""
    for limit in limits:
        if not limit.holds(candidates):
            nearest = limit.nearest(limit.resource.left(candidates))
            has = f"it is {nearest} as fast" if limit.name == SPEEDUP else f"the model has {nearest}"
            other = "" if what == PLURALS["joint"] else ", or take of: joint"
            raise UserError(
                f"{field}.{limit.name}: {limit.quantity} cannot be reached{after}: without all of its {what} {has}; "
                f"the nearest limit is {limit.name}: {nearest}{other}"
            )
    if all(limit.holds(()) for limit in limits):
        has = ", ".join(f"{limit.name} {limit.nearest(limit.resource.undropped)}" for limit in limits)
        remedy = f"leave {quantized} out of `quantized`" if quantized else "leave the plan out"
        raise UserError(f"{field}: holds{after} before anything is dropped ({has}); lower it, or {remedy}")
