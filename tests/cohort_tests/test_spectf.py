"""The 267 real patients are imported as published, or refused in one line."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cohort.drawing import spectf
from cohort.drawing.polar_map import draw_segments
from cohort.drawing.spectf import REGIONS_OF_SEGMENT, import_spectf
from cohort.segments import segment_columns
from spaces.errors import InputError


@pytest.fixture(scope="module")
def imported(spectf_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectf")
    return folder, pd.read_csv(import_spectf(spectf_files, folder))


@pytest.fixture
def invented(tmp_path, monkeypatch):
    """Two files of the published form, with so few rows that maps cost nothing."""
    monkeypatch.setattr(
        spectf, "FILES", {"SPECTF.train": (4, "development"), "SPECTF.test": (3, "test")}
    )
    generator = np.random.default_rng(0)
    for name, (rows, _) in spectf.FILES.items():
        counts = generator.integers(40, 90, (rows, 45))
        counts[:, 0] = np.arange(rows) % 2
        np.savetxt(tmp_path / name, counts, delimiter=",", fmt="%d")
    return tmp_path


def test_rows_diagnoses_and_split_are_those_published(imported):
    _, table = imported
    assert list(table["patient_id"].iloc[[0, -1]]) == ["spectf_000", "spectf_266"]
    counted = table.groupby(["uci_split", "diagnosis"]).size().to_dict()
    assert counted == {
        ("development", 0): 40,
        ("development", 1): 40,
        ("test", 0): 15,
        ("test", 1): 172,
    }


def test_segments_equal_the_table_made_by_hand(imported, spectf_files):
    _, table = imported
    by_hand = pd.read_csv(spectf_files / "spectf_aha17.csv")
    for name in ("rest", "stress"):
        ours = table[segment_columns(f"{name}_counts")].to_numpy()
        assert np.array_equal(ours, by_hand.filter(regex=f"^{name}_s").to_numpy())


def test_logistic_regression_on_the_published_split_finds_what_is_known(imported):
    _, table = imported
    fit, judge = (table[table["uci_split"] == part] for part in ("development", "test"))
    for columns, known in (("rest_counts", 0.75), ("stress_counts", 0.78)):
        names = segment_columns(columns)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
        model.fit(fit[names], fit["diagnosis"])
        auc = roc_auc_score(judge["diagnosis"], model.decision_function(judge[names]))
        assert auc == pytest.approx(known, abs=0.05)


def test_maps_show_the_counts_on_the_fixed_range(imported):
    folder, table = imported
    row = table.iloc[100]
    values = row[segment_columns("stress_counts")].to_numpy(np.float64)
    with Image.open(folder / row["stress"]) as image:
        assert image.mode == "RGB"
        assert image.size == (228, 228)
        assert np.array_equal(np.asarray(image), draw_segments(values[None], 228, 100)[0])


def test_columns_and_ratio_of_an_imported_cohort(invented, tmp_path):
    table = pd.read_csv(import_spectf(invented, tmp_path / "cohort"))
    expected = ["patient_id", "stress", "rest", "diagnosis", "uci_split"]
    for prefix in ("rest_counts", "stress_counts", "ratio"):
        expected += segment_columns(prefix)
    assert list(table.columns) == expected
    rest, stress, ratio = (
        table[segment_columns(prefix)].to_numpy()
        for prefix in ("rest_counts", "stress_counts", "ratio")
    )
    assert np.allclose(ratio, stress / rest, rtol=1e-5)
    assert all(
        (tmp_path / "cohort" / path).is_file() for path in [*table["rest"], *table["stress"]]
    )


def test_each_segment_takes_its_region_and_the_apex_the_mean_of_two(invented, tmp_path):
    raw = np.loadtxt(invented / "SPECTF.train", delimiter=",")
    table = pd.read_csv(import_spectf(invented, tmp_path / "cohort"))
    # Columns: diagnosis, F1R, F1S, ... F22R, F22S.
    assert table["rest_counts_01"].iloc[0] == raw[0, 1 + 2 * 9]
    assert table["stress_counts_13"].iloc[1] == raw[1, 2]
    assert table["stress_counts_17"].iloc[2] == (raw[2, 2 + 2 * 14] + raw[2, 2 + 2 * 19]) / 2
    assert sorted(REGIONS_OF_SEGMENT) == list(range(1, 18))


def _spoil(path, row, column, text):
    lines = [line.split(",") for line in path.read_text().splitlines()]
    lines[row][column] = text
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("101", r"SPECTF.test row 2 column 6: a count must lie in 1..100, got 101"),
        ("-1", r"row 2 column 6: a count must lie in 1..100, got -1"),
        ("0", r"row 2 column 6: a count must lie in 1..100, got 0"),
        ("", r"row 2 column 6: a count must lie in 1..100, got nan"),
        ("high", r"SPECTF.test: cannot be read as numbers"),
        ("50,50", r"SPECTF.test: cannot be read as numbers"),
    ],
)
def test_a_bad_count_is_named_by_row_and_column(invented, tmp_path, text, message):
    _spoil(invented / "SPECTF.test", 1, 5, text)
    with pytest.raises(InputError, match=message) as caught:
        import_spectf(invented, tmp_path / "cohort")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cohort" / "cohort.csv").exists()


def test_a_diagnosis_other_than_0_or_1_is_refused(invented, tmp_path):
    _spoil(invented / "SPECTF.train", 2, 0, "2")
    with pytest.raises(InputError, match=r"row 3: diagnosis must be 0 or 1, got 2"):
        import_spectf(invented, tmp_path / "cohort")


def test_missing_files_rows_and_columns_are_refused(invented, tmp_path):
    path = invented / "SPECTF.train"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match=r"SPECTF.train: must have 4 rows, got 3"):
        import_spectf(invented, tmp_path / "cohort")
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    with pytest.raises(InputError, match=r"must have 45 columns, got 44"):
        import_spectf(invented, tmp_path / "cohort")
    path.write_text("")
    with pytest.raises(InputError, match=r"cannot be read as numbers \(No columns"):
        import_spectf(invented, tmp_path / "cohort")
    path.unlink()
    with pytest.raises(InputError, match=r"SPECTF.train: no such file\. Give the folder with"):
        import_spectf(invented, tmp_path / "cohort")
