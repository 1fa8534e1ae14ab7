"""The JSON schema that editors read: up to date, complete, and no stricter than the reader."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from spaces.campaign import is_campaign
from spaces.schema import MODELINE, SCHEMA_FILE, study_schema

STUDIES = Path(__file__).parents[2] / "studies"
SCHEMA = json.loads(study_schema())
SECTIONS = {"Study": SCHEMA, **SCHEMA["$defs"]}
KEYS = [
    (section, key, node)
    for section, content in SECTIONS.items()
    for key, node in content.get("properties", {}).items()
]


def test_the_schema_beside_the_studies_is_the_models() -> None:
    """After a change: polartune schema > studies/study.schema.json."""
    assert (STUDIES / SCHEMA_FILE).read_text(encoding="utf-8") == study_schema()


@pytest.mark.parametrize(("section", "key", "node"), KEYS, ids=[f"{s}.{k}" for s, k, _ in KEYS])
def test_every_key_is_described_in_a_sentence(section: str, key: str, node: dict) -> None:
    # A key described by the very words of its section leaves them there.
    reference = node.get("$ref", "").rsplit("/", 1)[-1]
    description = node.get("description") or SECTIONS.get(reference, {}).get("description", "")
    assert description.endswith((".", ")")), f"{section}.{key}"
    assert "\n" not in description


FILES = sorted(path for path in STUDIES.glob("*.yaml") if not is_campaign(path))


def test_every_study_names_its_schema() -> None:
    for path in FILES:
        assert path.read_text(encoding="utf-8").splitlines()[0] == MODELINE, path.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_study_is_valid_under_the_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize(
    "change", [{"serach": {}}, {"training": {"epochs": 0}}, {"space": {"lambda": {"low": 0.1}}}]
)
def test_what_the_reader_refuses_the_schema_refuses(change: dict) -> None:
    study = yaml.safe_load((STUDIES / "demo.yaml").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(study | change, SCHEMA)
