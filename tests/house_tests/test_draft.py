"""`polartune init`: what it recognises in a table, and that its draft is a valid study."""

from pathlib import Path

import pandas as pd
import pytest

from cohort.draft import draft_study, recognise
from cohort.segments import segment_columns
from polartune import commands
from spaces.errors import InputError, RefusedError
from spaces.schema import MODELINE, SCHEMA_FILE, study_schema
from spaces.study import read_study


def table(folder: Path, **columns: list[str]) -> Path:
    path = folder / "cohort.csv"
    pd.DataFrame({"patient_id": ["a", "b", "c"], **columns}).to_csv(path, index=False)
    return path


def drafted(path: Path):
    target = path.with_name("study.yaml")
    target.write_text(draft_study(path))
    return read_study(target)


MAPS = ["a.png", "b.PNG", "c.jpg"]


def test_columns_are_recognised_by_what_they_hold() -> None:
    flow = {name: ["2.1", "", "3"] for name in segment_columns("mfr")}
    frame = pd.DataFrame(
        {
            "patient_id": ["1", "2", "3"],
            "reserve": MAPS,
            "stress": ["x.png", "", "y.png"],
            "sex": ["0", "1", ""],
            "constant": ["1", "1", "1"],
            "age": ["50", "60", "70"],
            "visit_01": ["1", "0", "1"],
            "split": ["development", "test", "test"],
            **flow,
        }
    )
    found = recognise(frame)
    assert found.inputs == ("reserve", "stress")
    assert found.targets == ("sex", "visit_01")
    assert found.segments == ("mfr",)
    assert found.split


def test_the_draft_of_a_phantom_cohort_is_a_valid_study(phantom: Path, tmp_path: Path) -> None:
    path = tmp_path / "cohort.csv"
    path.write_bytes(phantom.read_bytes())
    study = drafted(path)
    assert study.cohort.inputs == ["rest"]
    assert study.cohort.segments == "mfr"
    assert study.cohort.baseline_segments["stress"] == "stress_mbf"
    assert study.cohort.derive["impaired_any"].below == 2.0


def test_segments_of_other_names_are_pointed_out(tmp_path: Path) -> None:
    flow = {f"CFR {number}": ["2.1", "", "3"] for number in range(1, 18)}
    odd = {f"visit {number}": ["1", "2", "3"] for number in range(1, 17)}
    path = table(tmp_path, reserve=MAPS, sex=["0", "1", "1"], **flow, **odd)
    assert drafted(path).cohort.segments is None
    text = path.with_name("study.yaml").read_text()
    assert "# CFR 1 to CFR 17 look like segments: call them mfr_01 to mfr_17" in text
    assert "visit" not in text


def test_columns_of_two_words_are_pointed_out(tmp_path: Path) -> None:
    path = table(tmp_path, reserve=MAPS, sex=["0", "1", "1"], diabetes=["yes", "no", ""])
    drafted(path)
    assert "not yet a target: [diabetes]" in path.with_name("study.yaml").read_text()


def test_without_segments_lambda_is_one(tmp_path: Path) -> None:
    study = drafted(table(tmp_path, reserve=MAPS, sex=["0", "1", "1"]))
    assert study.cohort.segments is None
    assert study.space.lambda_ == 1.0


@pytest.mark.parametrize("name", ["yes", "sex: female?", "1", "null", "a #b"])
def test_column_names_that_yaml_would_misread_are_quoted(tmp_path: Path, name: str) -> None:
    study = drafted(table(tmp_path, reserve=MAPS, **{name: ["0", "1", "1"]}))
    assert study.cohort.target == name


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sex": ["0", "1", "1"]}, "no column holds image paths"),
        ({"reserve": MAPS}, "no column holds 0 and 1.* Add a target column"),
        ({"reserve": MAPS, "sex": ["F", "M", "F"]}, "Write 0 and 1 for the two values of sex"),
    ],
)
def test_a_table_without_maps_or_target_is_explained(
    tmp_path: Path, columns: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draft_study(table(tmp_path, **columns))


@pytest.mark.parametrize("first_bytes", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"])
def test_a_workbook_is_told_from_a_table(tmp_path: Path, first_bytes: bytes) -> None:
    path = tmp_path / "patients.xlsx"
    path.write_bytes(first_bytes + b"\x00\x98")
    with pytest.raises(InputError, match=r"got an Excel workbook\. In Excel: Save as, CSV UTF-8"):
        draft_study(path)


@pytest.mark.parametrize(("name", "problem"), [("", "is a folder"), ("x.csv", "does not exist")])
def test_what_is_no_table_is_told(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(InputError, match=f"{problem}. Give the path of your cohort table"):
        draft_study(tmp_path / name)


def test_the_first_row_of_a_table_without_header_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "cohort.csv"
    path.write_text("SECRET1,SECRET1.png,1\nSECRET2,SECRET2.png,0\n")
    with pytest.raises(InputError, match="needs a column patient_id") as error:
        draft_study(path)
    assert "SECRET" not in str(error.value)


def test_the_schema_lies_beside_the_draft(tmp_path: Path) -> None:
    commands.init_command(table(tmp_path, reserve=MAPS, sex=["0", "1", "1"]))
    [first, *_] = (tmp_path / "study.yaml").read_text().splitlines()
    assert first == MODELINE
    assert (tmp_path / SCHEMA_FILE).read_text() == study_schema()


def test_a_study_file_is_never_overwritten(tmp_path: Path) -> None:
    path = table(tmp_path, reserve=MAPS, sex=["0", "1", "1"])
    commands.init_command(path)
    before = (tmp_path / "study.yaml").read_bytes()
    with pytest.raises(RefusedError, match="exists already"):
        commands.init_command(path)
    assert (tmp_path / "study.yaml").read_bytes() == before
