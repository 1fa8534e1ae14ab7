"""`polartune compare`: equal patients are compared in pairs, unequal ones are refused in words."""

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_run import Run, record_trial
from rich.console import Console
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from analysis.choose.select import select
from analysis.show.compare import compare, differing_settings, show_comparison, write_comparison
from analysis.statistics.bootstrap import PERCENTILE
from polartune.commands import app
from spaces.errors import InputError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_json, read_out_of_fold, write_json


@pytest.fixture
def two(judged: Run) -> tuple[Path, Path]:
    """A judged run, and a run of other settings on the same patients whose test set is closed."""
    first = judged.files.root
    second = first.with_name("second")
    shutil.copytree(first, second)
    files = RunFiles(second)
    shutil.rmtree(files.test)
    files.trials.unlink()
    record_trial(files, judged.cohort, 0, Configuration(0.5, 1e-3, 1e-2, 0.5), skill=0.3)
    text = files.study.read_text().replace("epochs: 6", "epochs: 6, batch_size: 8")
    files.study.write_text(text.replace("name: tiny", "name: second"))
    select(files)
    return first, second


def winner(run: RunFiles) -> np.ndarray:
    best = read_json(run.best, "best")
    logits = read_out_of_fold(run.out_of_fold_of(best["trial"]))[best["epochs"] - 1]
    return logits[:, 1] - logits[:, 0]


def shown(folders: tuple[Path, ...]) -> list[str]:
    console = Console(width=80, record=True, quiet=False)
    show_comparison(*compare(folders), console)
    return console.export_text().splitlines()


def test_the_difference_is_that_of_the_winners_aucs(two: tuple[Path, Path], judged: Run) -> None:
    _, [difference] = compare(two)
    target = judged.cohort.development.target
    known = np.isfinite(target)
    first, second = (
        roc_auc_score(target[known], winner(RunFiles(folder))[known]) for folder in two
    )
    assert difference.estimate["estimate"] == pytest.approx(second - first)
    assert difference.estimate["n"] == known.sum()
    interval = difference.estimate["intervals"][PERCENTILE]
    assert interval["low"] < second - first < interval["high"] < 0


def test_patients_without_the_outcome_are_left_out(
    two: tuple[Path, Path], judged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = judged.cohort.development.target.copy()
    target[:7] = np.nan
    development = dataclasses.replace(judged.cohort.development, target=target)
    cohort = dataclasses.replace(judged.cohort, development=development)
    monkeypatch.setattr("analysis.show.compare.reopen", lambda *_, **__: cohort)
    _, [difference] = compare(two)
    assert difference.estimate["n"] == len(target) - 7


def test_the_interval_is_of_pairs(two: tuple[Path, Path]) -> None:
    """A run against its copy differs by exactly nothing, which no unpaired interval would say."""
    again = two[0].with_name("again")
    shutil.copytree(two[0], again)
    _, [difference] = compare((two[0], again))
    interval = difference.estimate["intervals"][PERCENTILE]
    assert (interval["low"], difference.estimate["estimate"], interval["high"]) == (0, 0, 0)


def test_only_settings_that_differ_are_listed(two: tuple[Path, Path]) -> None:
    runs, _ = compare(two)
    assert differing_settings(runs) == {"training.batch_size": ["32", "8"]}


def test_a_searched_parameter_is_one_setting(two: tuple[Path, Path]) -> None:
    study = two[1] / "study.yaml"
    study.write_text(study.read_text() + "space: {lambda: {low: 0.1, high: 0.9}}\n")
    runs, _ = compare(two)
    assert "0.9" in differing_settings(runs)["space.lambda"][1]


def test_the_table_fits_and_opens_nothing(two: tuple[Path, Path]) -> None:
    ledger = {path: path.stat().st_mtime_ns for path in two[0].parent.rglob("*")}
    lines = shown(two)
    assert {path: path.stat().st_mtime_ns for path in two[0].parent.rglob("*")} == ledger
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "4 of 7" in text
    assert "1 of 1" in text
    assert text.count("not opened") == 1
    assert "2 - 1" in text
    assert "95 % interval \N{MINUS SIGN}0." in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cohort_sha256": "d" * 64}, "another cohort table"),
        ({"split_sha256": "d" * 64}, "another split"),
    ],
)
def test_other_patients_are_not_compared(
    two: tuple[Path, Path], change: dict[str, str], reason: str
) -> None:
    environment = RunFiles(two[1]).environment
    content = read_json(environment, "environment")
    del content["format"]
    write_json(environment, "environment", content | change)
    assert f"not comparable: {reason}" in "\n".join(shown(two))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("target: impaired", "target: female", "another target"),
        (
            "colour_scale: fixed",
            "colour_scale: fixed\n  derive: {impaired: {below: 1.5}}",
            "another rule for the target",
        ),
    ],
)
def test_other_outcomes_are_not_compared(
    two: tuple[Path, Path], old: str, new: str, reason: str
) -> None:
    study = two[1] / "study.yaml"
    study.write_text(study.read_text().replace(old, new))
    assert f"not comparable: {reason}" in " ".join(" ".join(shown(two)).split())


def test_a_run_without_a_choice_or_a_changed_cohort_is_told(two: tuple[Path, Path]) -> None:
    cohort = two[0].parent / "cohort" / "cohort.csv"
    before = cohort.read_bytes()
    cohort.write_bytes(before + b"\n")
    assert "the cohort table changed" in " ".join(" ".join(shown(two)).split())
    cohort.write_bytes(before)
    RunFiles(two[1]).best.unlink()
    assert "nothing was selected yet in second" in "\n".join(shown(two))


def test_a_test_set_that_was_opened_before_is_told(two: tuple[Path, Path], tmp_path: Path) -> None:
    again = two[0].with_name("again")
    shutil.copytree(two[0], again)
    metrics = read_json(RunFiles(again).metrics, "metrics")
    del metrics["format"]
    later = metrics | {"exploratory": True, "openings": 2, "openings_of_other_splits": 1}
    write_json(RunFiles(again).metrics, "metrics", later)
    folders = (two[0], two[1], again)
    lines = shown(folders)
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "3 test AUC exploratory: opening 2 of this test set; outcomes opened once under" in text
    assert text.count("test AUC exploratory") == 1
    write_comparison(*compare(folders), tmp_path / "runs.csv")
    said = pd.read_csv(tmp_path / "runs.csv", keep_default_na=False)["test_exploratory"].tolist()
    assert said[:2] == ["", ""]
    assert said[2].startswith("opening 2")


def test_the_csv_holds_a_row_a_run(two: tuple[Path, Path], tmp_path: Path) -> None:
    runs, differences = compare(two)
    write_comparison(runs, differences, tmp_path / "runs.csv")
    table = pd.read_csv(tmp_path / "runs.csv")
    assert table["run"].tolist() == ["run", "second"]
    assert table["training.batch_size"].tolist() == [32, 8]
    assert table["test_auc"].notna().tolist() == [True, False]
    assert table.loc[1, "difference"] == differences[0].estimate["estimate"]
    with (tmp_path / "runs.csv").open() as file:
        assert len(list(csv.reader(file))) == 3


def test_one_run_is_nothing_to_compare(two: tuple[Path, Path]) -> None:
    for folders in (two[:1], (two[0], two[0])):
        with pytest.raises(InputError, match="at least two different runs"):
            compare(folders)
    with pytest.raises(InputError, match="is no run directory"):
        compare((two[0], two[0].parent))


def test_the_command_writes_the_table(two: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["compare", *map(str, two), "--csv", str(tmp_path / "runs.csv")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "runs.csv").exists()
