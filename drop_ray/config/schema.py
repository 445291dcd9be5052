"""The JSON schema of a run's config file, for completion and checks in editors, and for the reference."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic.json_schema import JsonSchemaValue as Schema

from drop_ray.config.run import RunConfig

SCHEMA_ID = "urn:drop-ray:run-config"


class _Untitled(GenerateJsonSchema):
    """Leaves out pydantic's titles, which repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def tagged_union_schema(self, schema: Any) -> Schema:
        """As of a union without tags, which stand in no file."""
        found = super().tagged_union_schema(schema)
        return {"anyOf": found["oneOf"]}


def run_schema() -> Schema:
    """The schema of a config file. `name` is not required, since it defaults to the file's name."""
    schema = RunConfig.model_json_schema(schema_generator=_Untitled)
    required = [name for name in schema["required"] if name != "name"]
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": SCHEMA_ID,
        **schema,
        "title": "A run of drop_ray",
        "required": required,
    }
