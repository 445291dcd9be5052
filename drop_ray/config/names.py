"""Names of metrics and strategies as a config may write them: the project's own, and those that packages add."""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from drop_ray.extensions import METRICS, STRATEGIES, Registry


def _known_to(registry: Registry) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in registry.names:
            *others, last = map(repr, registry.names)
            raise ValueError(f"Input should be {', '.join(others)} or {last}")
        return name

    return check


MetricName = Annotated[str, AfterValidator(_known_to(METRICS))]
StrategyName = Annotated[str, AfterValidator(_known_to(STRATEGIES))]
