"""Names of metrics and strategies as a config may write them: the project's own, and those that packages add."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from drop_ray.extensions import METRICS, STRATEGIES, Registry


@dataclass(frozen=True, eq=False)
class _NameIn:
    """Stands for a Literal whose values are known only when the installed packages are."""

    registry: Registry
    """The registry whose names are valid."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "enum": list(self.registry.names)}

    def _check(self, name: str) -> str:
        if name not in self.registry.names:
            *others, last = map(repr, self.registry.names)
            raise ValueError(f"Input should be {', '.join(others)} or {last}")
        return name


MetricName = Annotated[str, _NameIn(METRICS)]
StrategyName = Annotated[str, _NameIn(STRATEGIES)]
