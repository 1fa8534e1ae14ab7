"""The study file as a JSON schema, for editors that complete and check YAML."""

from __future__ import annotations

import json

from pydantic.json_schema import GenerateJsonSchema

from spaces.study import Study

SCHEMA_FILE = "study.schema.json"
# The first line of a study file that lies beside its schema.
MODELINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles of keys, which only repeat them."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        """Return False."""
        return False


def study_schema() -> str:
    """Return the JSON schema (draft 2020-12) of a study file, with a sentence for every key."""
    schema = Study.model_json_schema(by_alias=True, schema_generator=_WithoutTitles)
    document = {"$schema": _WithoutTitles.schema_dialect, **schema, "title": "polartune study"}
    text = json.dumps(document, indent=1) + "\n"
    return text.replace("\\n", " ")  # docstrings are broken at the width of the source
