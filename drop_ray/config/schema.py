"""The JSON schema of a run's config file: what editors complete and check, and what the reference is made from."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic.json_schema import JsonSchemaValue as Schema

from drop_ray.config.run import RunConfig

SCHEMA_ID = "urn:drop-ray:run-config"


class _Untitled(GenerateJsonSchema):
    """Without pydantic's titles, which repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def run_schema() -> Schema:
    """What `load_config` takes: a file's name stands in for a missing `name`, so that it is not required."""
    schema = RunConfig.model_json_schema(schema_generator=_Untitled)
    required = [name for name in schema["required"] if name != "name"]
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": SCHEMA_ID,
        **schema,
        "title": "A run of drop_ray",
        "required": required,
    }
