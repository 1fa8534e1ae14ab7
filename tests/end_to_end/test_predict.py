"""A trained model says of new maps what it said of the test set, whatever stands beside them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from in_process import describe_lambda
from PIL import Image
from typer.testing import CliRunner

from analysis.use.predict import find_model, predict, read_request, write_predictions
from cohort.patient_key import hash_ids, read_key
from cohort.segments import segment_columns
from polartune.commands import app
from spaces.errors import BAD_INPUT, DONE, InputError
from trainable.familiarity import FILE


@pytest.fixture(scope="module")
def maps(trained, phantom) -> dict[str, Path]:
    """The reserve map of each test patient, by keyed hash."""
    table = pd.read_csv(phantom, dtype=str)
    hashes = hash_ids(read_key(phantom), list(table["patient_id"]))
    files = dict(zip(hashes, table["reserve"], strict=True))
    tested = pq.read_table(trained.predictions).to_pandas()["patient"]
    return {patient: phantom.parent / files[patient] for patient in tested}


def said_of(trained, files: list[Path]) -> pd.DataFrame:
    return predict(find_model(trained.root), read_request(files, ["reserve"]))


def test_it_says_what_the_evaluation_said(trained, maps) -> None:
    frozen = pq.read_table(trained.predictions).to_pandas()
    found = said_of(trained, list(maps.values()))
    assert found["probability"].to_numpy() == pytest.approx(frozen["probability"], abs=1e-6)
    theirs = frozen[segment_columns("segment")].to_numpy()
    assert found[segment_columns("mfr")].to_numpy() == pytest.approx(theirs, abs=1e-5)


def test_a_patients_numbers_depend_on_nobody_else(trained, maps) -> None:
    files = list(maps.values())
    together = said_of(trained, files)
    backwards = said_of(trained, files[::-1]).iloc[::-1].reset_index(drop=True)
    alone = pd.concat([said_of(trained, [file]) for file in files[:3]], ignore_index=True)
    numbers = together.select_dtypes("number").columns
    assert together[numbers].to_numpy() == pytest.approx(backwards[numbers].to_numpy(), abs=1e-5)
    assert together[numbers][:3].to_numpy() == pytest.approx(alone[numbers].to_numpy(), abs=1e-5)
    assert list(together["patient"]) == [file.name for file in files]


def test_a_map_unlike_those_of_development_is_warned_of(trained, maps, tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    found = said_of(trained, [*maps.values(), tmp_path / "noise.png"])
    assert found["warning"].iloc[-1].startswith("unlike the development patients")
    assert (found["warning"][:-1] == "").mean() > 0.7


def test_a_table_names_the_patients_and_its_paths_stay_inside(trained, maps, tmp_path) -> None:
    for at, file in enumerate(list(maps.values())[:2]):
        shutil.copy(file, tmp_path / f"{at}.png")
    table = tmp_path / "new.csv"
    table.write_text("id,reserve\n=1+1,0.png\nb,1.png\n")
    request = read_request([table], ["reserve"])
    frame = predict(find_model(trained.root / "model"), request)
    assert list(frame["patient"]) == ["=1+1", "b"]
    write_predictions(tmp_path / "out.csv", frame)
    assert list(pd.read_csv(tmp_path / "out.csv")["patient"]) == ["'=1+1", "b"]
    table.write_text("id,reserve\na,../x.png\n")
    with pytest.raises(InputError, match=r"new\.csv row 2 reserve: the path leaves"):
        read_request([table], ["reserve"])


@pytest.mark.parametrize(
    ("files", "inputs", "message"),
    [
        (["a.png", "b.png"], ["rest", "stress"], r"sees 2 maps of a patient: rest, stress.*table"),
        (["absent.png", "broken.png"], ["rest"], r"2 unusable images: absent\.png: .*broken\.png"),
        (["new.csv"], ["stress"], r"new\.csv: must have the columns stress, lacks stress"),
        (["empty.csv"], ["rest"], r"empty\.csv: the table holds no row"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_one_line(
    tmp_path: Path, files: list[str], inputs: list[str], message: str
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "new.csv").write_text("id,rest\na,a.png\n")
    (tmp_path / "empty.csv").write_text("id,rest\n")
    with pytest.raises(InputError, match=message):
        read_request([tmp_path / name for name in files], inputs)


def test_the_command_writes_a_table(trained, maps, tmp_path) -> None:
    files = [str(file) for file in maps.values()]
    out = tmp_path / "out.csv"
    result = CliRunner().invoke(app, ["predict", str(trained.root), *files, "-o", str(out)])
    assert result.exit_code == DONE, result.output
    assert f"{len(files)} patients" in result.output.replace("\n", "")
    assert list(pd.read_csv(out).columns[:4]) == ["patient", "probability", "distance", "warning"]


def test_without_a_model_it_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no trained model"):
        find_model(tmp_path)
    assert InputError.exit_code == BAD_INPUT


def test_a_model_without_the_measure_says_so(trained, maps, tmp_path) -> None:
    copied = tmp_path / "model"
    shutil.copytree(trained.model, copied)
    (copied / FILE).unlink()
    found = predict(copied, read_request(list(maps.values())[:1], ["reserve"]))
    assert found["warning"].iloc[0].startswith("not judged")
    assert np.isnan(found["distance"].iloc[0])


@pytest.fixture
def trained_with(trained, tmp_path):
    """Return a function: the model, described as if lambda had been another."""

    def describe(lambda_: float) -> Path:
        copied = tmp_path / "model"
        shutil.copytree(trained.model, copied)
        describe_lambda(copied, lambda_)
        return copied

    return describe


@pytest.mark.parametrize(("lambda_", "missing"), [(0.0, "probability"), (1.0, "mfr_")])
def test_what_got_no_gradient_has_no_column(trained, trained_with, maps, lambda_, missing) -> None:
    request = read_request(list(maps.values())[:2], ["reserve"])
    everything = predict(trained.model, request)
    expected = everything[[name for name in everything if not name.startswith(missing)]]
    assert expected.shape[1] < everything.shape[1]
    pd.testing.assert_frame_equal(predict(trained_with(lambda_), request), expected)


def test_the_command_says_that_there_is_no_probability(trained_with, maps, tmp_path) -> None:
    files = [str(file) for file in maps.values()][:2]
    words = ["predict", str(trained_with(0.0)), *files, "-o", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == DONE, result.output
    assert "no probability: with lambda = 0" in result.output
