"""A study file says what is wrong, where, and what to do; and survives being written."""

from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from spaces.errors import InputError
from spaces.parameters import Configuration, Space, first_configurations
from spaces.sections import Evidence
from spaces.study import Study, fixed_study, read_study

TEXT = """\
name: demo
cohort:
  path: cohort.csv
  inputs: [reserve]
  target: impaired_any
  colour_scale: fixed
  derive: {impaired_any: {below: 2.0}}
space:
  lambda: {low: 0.0, high: 1.0}
  learning_rate: {low: 1.0e-5, high: 0.01, log: true}
"""


def read(text: str, folder: Path) -> Study:
    path = folder / "study.yaml"
    path.write_text(text)
    return read_study(path)


def test_a_study_survives_being_written(tmp_path):
    study = read(TEXT, tmp_path)
    assert read(study.as_yaml(), tmp_path) == study


def with_every_null(section: BaseModel) -> dict[str, object]:
    """Return a section's content with null wherever that is allowed."""
    content = section.model_dump(by_alias=True)
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            content[field.alias or name] = with_every_null(value)
        elif type(None) in get_args(field.annotation):
            content[field.alias or name] = None
    return content


def test_a_null_survives_being_written(tmp_path):
    """Most nulls say what a default does not: no such column, no segments."""
    content = with_every_null(read(TEXT, tmp_path)) | {"space": {"lambda": 1.0}}
    study = Study.model_validate(content)
    assert (study.cohort.segments, study.evaluation.age, study.evaluation.sex) == (None,) * 3
    assert read(study.as_yaml(), tmp_path) == study


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("high: 0.01", "hihg: 0.01", r"study.yaml:10 space.learning_rate.hihg: unknown key\. Did"),
        ("high: 0.01", "str: 0.01", r"study.yaml:10 space.learning_rate.str: unknown key"),
        ("name: demo", "range: demo", r"study.yaml:1 (name: this key is req|range: unknown key)"),
        ("name: demo", "nmae: demo", r"study.yaml:1 name: this key is required|nmae: unknown key"),
        ("1.0e-5", "1e-5", r"study.yaml:10 .*low: .*got '1e-5'\. YAML reads 1e-5 as text; write"),
        ("low: 1.0e-5", "low: 0.5", r"study.yaml:10 space.learning_rate: low must be < high"),
        ("low: 1.0e-5", "low: 0.0", r"low must be > 0 on a log scale, got 0\.0; use log: false"),
        ("high: 1.0}", "high: 1.5}", r"yaml:9 space.lambda: must be in \[0, 1\], got 0 to 1\.5"),
        ("{low: 0.0, high: 1.0}", "-1.0", r"yaml:9 space.lambda: must be in \[0, 1\], got -1;"),
        ("{low: 1.0e-5", "{low: -1.0", r"space.learning_rate: .*> 0 on a log scale, got -1\.0"),
        (
            "name: demo",
            f"name: {'x' * 999}",
            r"name: must be at most 64 letters.*, got '.{79}\.\.\.",
        ),
        ("name: demo", "name: my study", r"yaml:1 name: must be .*letter or digit, got 'my study'"),
        (
            "below: 2.0",
            "below: 2,0",
            r"derive.impaired_any.0: a key must be a word.*write a decimal",
        ),
        (
            "space:",
            "network: {weights: {file: w.pth}}\nspace:",
            r"network.weights.sha256: this key is required\. Add it; sha256sum FILE prints it",
        ),
        (
            "space:",
            "network: {weights: {file: w.pth, sha256: XY}}\nspace:",
            r"network.weights.sha256: must be a sha256: .*, got 'XY'",
        ),
        ("space:", "network: {weights: imagnet}\nspace:", r"weights: should be 'imagenet' or 'ran"),
        ("[reserve]", "[reserve, reserve]", r"study.yaml:2 cohort: inputs must differ"),
        ("fixed", "fxied", r"study.yaml:6 cohort.colour_scale: .*'fixed', 'relative' or 'unknown'"),
        ("below: 2.0", "below: .nan", r"study.yaml:7 cohort.derive.impaired_any.below"),
        ("name: demo", "name: demo\nformat: polartune/study/9", "A newer polartune wrote it"),
        ("name: demo", "name: [", "not valid YAML"),
    ],
)
def test_each_mistake_has_its_line_rule_and_value(tmp_path, old, new, message):
    assert old in TEXT
    with pytest.raises(InputError, match=message) as caught:
        read(TEXT.replace(old, new), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.yaml: cannot be read"):
        read_study(tmp_path / "absent.yaml")


def test_without_segments_lambda_is_1(tmp_path):
    text = TEXT.replace("colour_scale: fixed", "colour_scale: fixed\n  segments: null")
    assert read(text.replace("  lambda: {low: 0.0, high: 1.0}\n", ""), tmp_path).space.lambda_ == 1
    with pytest.raises(InputError, match=r"space\.lambda must be 1\.0"):
        read(text, tmp_path)


@pytest.mark.parametrize(
    ("share", "right"), [(0.5, True), (1 / 3, True), (2.0, True), (0.4, False)]
)
def test_gpu_shares_are_whole_or_one_nth(tmp_path, share, right):
    text = TEXT + f"resources: {{gpus_per_trial: {share}}}\n"
    if right:
        assert read(text, tmp_path).resources.gpus_per_trial == share
    else:
        with pytest.raises(InputError, match="must be a whole number or 1/n"):
            read(text, tmp_path)


unit = st.floats(0, 1)


@given(unit, st.floats(1e-5, 1e-2), st.floats(1e-6, 1e-1), unit)
def test_a_fixed_study_reads_back_to_the_last_bit(lambda_, rate, decay, strength):
    configuration = Configuration(lambda_, rate, decay, strength)
    study = Study.model_validate(yaml.safe_load(TEXT))
    evidence = Evidence(
        study="demo", trial=3, rank=1, score=0.9, score_sd=0.1, best_epoch=5,
        trials_complete=4, trials_asked=9, split_sha256="0" * 64,
    )  # fmt: skip
    fixed = fixed_study(study, configuration.as_dict(), 5, evidence)
    again = Study.model_validate(yaml.safe_load(fixed.as_yaml()))
    assert Configuration.from_mapping(again.space.fixed()) == configuration
    assert again == fixed
    assert again.is_fixed
    assert again.training.epochs == 5


def test_retraining_for_fewer_epochs_keeps_the_searchs_schedule():
    content = yaml.safe_load(TEXT) | {"training": {"epochs": 20, "schedule": "cosine"}}
    study = Study.model_validate(content)
    evidence = Evidence(
        study="demo", trial=0, rank=1, score=0.9, score_sd=0.1, best_epoch=7,
        trials_complete=4, trials_asked=9, split_sha256="0" * 64,
    )  # fmt: skip
    values = Configuration(0.5, 1e-3, 1e-2, 0.0).as_dict()
    fixed = fixed_study(study, values, 7, evidence)
    assert (fixed.training.epochs, fixed.training.horizon) == (7, 20)


def test_the_paper_like_default_and_lambda_1_come_first():
    first = first_configurations(Space(), has_segments=True)
    assert [source for source, _ in first] == ["default", "single_task"]
    assert first[1][1].lambda_ == 1.0
    assert first[0][1].learning_rate == first[1][1].learning_rate


def test_first_configurations_stay_inside_the_space():
    space = Space.model_validate(
        {
            "lambda": 0.25,
            "learning_rate": {"low": 1e-2, "high": 1e-1, "log": True},
            "augmentation_strength": {"choices": [0.0, 0.2]},
        }
    )
    [(_, only)] = first_configurations(space, has_segments=True)
    assert only.lambda_ == 0.25
    assert only.learning_rate == pytest.approx(10**-1.5)
    assert only.augmentation_strength == 0.2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, r"cannot be read \(Is a directory\)"),
        (b"PK\x03\x04\x98", r"cannot be read \(it is no UTF-8 text\)"),
        (b"patient_id,reserve\n1,a.png\n", "is no study file"),
    ],
)
def test_a_folder_a_workbook_and_a_table_are_no_study(tmp_path, content, problem):
    path = tmp_path / "given"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=f"given: {problem}.*polartune init drafts one"):
        read_study(path)


def test_a_key_that_stands_twice_is_refused_with_its_second_line(tmp_path: Path) -> None:
    """YAML would take the last one, and the first would be believed."""
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nsearch:\n  trials: 4\n  trials: 5\n")
    with pytest.raises(InputError, match=r"study\.yaml:4 trials: this key stands here a second"):
        read_study(path)
