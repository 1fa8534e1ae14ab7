"""`polartune check`: its numbers against a plain count, and that it touches nothing."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from analysis.show.forecast import (
    Size,
    forecast,
    half_width,
    show_forecast,
    show_patients,
    show_size,
)
from cohort.table import read_cohort
from polartune import commands
from spaces.errors import InputError
from spaces.study import Study
from trainable.features import TOGETHER
from trainable.problem import Problem
from trainable.speed import Rates, _seconds, measure_rates

CONTENT = {
    "name": "small",
    "cohort": {
        "inputs": ["rest", "stress"],
        "target": "impaired_any",
        "derive": {"impaired_any": {"below": 2.0}},
        "colour_scale": "fixed",
        "split": {"test": 12, "stratify": True},
    },
    "network": {"backbone": "efficientnet_lite0", "image_size": 32},
    "augmentation": {"views": 2},
    "space": {"augmentation_strength": {"choices": [0.0, 0.5, 1.0]}},
    "training": {"epochs": 3},
    "search": {"trials": 7, "generation": 2},
    "resources": {"slots": 3},
}


@pytest.fixture
def study(phantom: Path) -> Study:
    return Study.model_validate(CONTENT | {"cohort": CONTENT["cohort"] | {"path": str(phantom)}})


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [folder, *folder.rglob("*")]
    }


def test_the_cost_is_counted(study: Study, phantom: Path) -> None:
    cost = forecast(study, read_cohort(study, phantom.parent), phantom.parent)
    patients = 60 - 12
    # Two maps, each plain once and twice at each of two strengths.
    assert cost.images == 2 * patients * (1 + 2 + 2)
    assert cost.bank_bytes == cost.images * (cost.bank_bytes // cost.images) > 0
    assert (cost.size.trainings, cost.size.epochs, cost.size.slots) == (35, 105, 3)


def test_check_shows_classes_and_warnings_and_touches_nothing(
    study: Study, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(study.as_yaml())
    before = snapshot(phantom.parent), snapshot(tmp_path)
    commands.check_command(file)
    assert (snapshot(phantom.parent), snapshot(tmp_path)) == before
    shown = capsys.readouterr().out
    assert "development   48" in shown
    assert "sealed" in shown
    assert "leaves 1 of 3 slots idle; 3 would not" in " ".join(shown.split())


def test_the_table_shows_each_folds_classes(study: Study, phantom: Path) -> None:
    cohort = read_cohort(study, phantom.parent)
    console = Console(width=80, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    show_patients(study, cohort, console)
    show_size(study, Size.of(study, cohort), console)
    show_forecast(forecast(study, cohort, phantom.parent), console)
    lines = console.export_text().splitlines()
    target, folds = cohort.development.target, cohort.split.folds
    for fold in range(5):
        [line] = [line for line in lines if line.startswith(f"  fold {fold} ")]
        of_fold = target[folds == fold]
        expected = [len(of_fold), int(of_fold.sum()), int((1 - of_fold).sum()), 0]
        assert [int(word) for word in line.split()[2:]] == expected
    assert max(map(len, lines)) <= 80


def test_the_interval_agrees_with_simulated_aucs(study: Study) -> None:
    """Hanley and McNeil's formula against the spread of AUCs of exponential scores."""
    generator = np.random.default_rng(0)
    positive, negative = 28, 65  # 93 patients at a prevalence of .3
    rate = 0.25  # P(exponential of rate r > exponential of rate 1) = 1 / (1 + r) = .8
    cases = generator.exponential(1 / rate, (4000, positive, 1))
    controls = generator.exponential(1.0, (4000, 1, negative))
    aucs = (cases > controls).mean(axis=(1, 2))
    assert aucs.mean() == pytest.approx(0.8, abs=0.005)
    assert half_width(0.8, 93, 0.3, study) == pytest.approx(1.96 * aucs.std(), rel=0.05)


def test_a_test_set_of_one_class_has_no_interval(study: Study) -> None:
    assert np.isnan(half_width(0.8, 5, 0.0, study))


def test_a_best_study_is_one_trial(study: Study, phantom: Path) -> None:
    content = yaml.safe_load(study.as_yaml())
    content["space"] = {
        "lambda": 0.5,
        "learning_rate": 0.001,
        "weight_decay": 0.01,
        "augmentation_strength": 0.0,
    }
    fixed = Study.model_validate(content)
    cost = forecast(fixed, read_cohort(fixed, phantom.parent), phantom.parent)
    assert (cost.size.trials, cost.images) == (1, 2 * 48)


def shown_size(study: Study, phantom: Path, **changes: object) -> str:
    content = yaml.safe_load(study.as_yaml())
    for section, values in changes.items():
        content[section] |= values
    changed = Study.model_validate(content)
    size = Size.of(changed, read_cohort(changed, phantom.parent))
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=80, record=True, file=nowhere)
        show_size(changed, size, console)
    return " ".join(console.export_text().split())


@pytest.mark.parametrize(
    ("search", "stops"),
    [
        ({"trials": 7, "grace": 1}, True),
        ({"trials": 2, "grace": 1}, False),  # one generation, which is compared with none
        ({"trials": 2, "grace": 1, "order": "asynchronous"}, True),
        ({"trials": 7, "grace": 3}, False),  # no rung below the last epoch
        ({"trials": 7, "grace": 1, "scheduler": "none"}, False),
    ],
)
def test_only_a_search_that_may_stop_trials_says_so(
    study: Study, phantom: Path, search: dict, stops: bool
) -> None:
    shown = shown_size(study, phantom, search=search)
    assert ("most of them stopped earlier" in shown) == stops


def test_the_cohort_and_the_size_are_shown_even_if_the_weights_cannot_be_had(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(study.as_yaml())
    content["network"] |= {"weights": {"file": "gone.pth", "sha256": "0" * 64}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="no such file"):
        commands.check_command(file)
    shown = " ".join(capsys.readouterr().out.split())
    assert "development 48" in shown
    assert "search 7 trials x 5 folds x 3 epochs = at most 105 epochs of a fold" in shown
    assert "answer an AUC of 0.8 on the test set would be known to about" in shown


def test_the_disk_is_the_one_that_the_bank_will_lie_on(
    study: Study, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(study.as_yaml()) | {"bank": {"path": str(tmp_path / "a" / "bank")}}
    changed = Study.model_validate(content)
    asked: list[Path] = []
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: (asked.append(Path(path)), SimpleNamespace(free=1))[1]
    )
    forecast(changed, read_cohort(changed, phantom.parent), phantom.parent)
    assert asked == [tmp_path.resolve()]


def seconds(study: Study, phantom: Path, **changes: object) -> float:
    content = yaml.safe_load(study.as_yaml())
    for section, values in changes.items():
        content[section] = content.get(section, {}) | values
    changed = Study.model_validate(content)
    return forecast(changed, read_cohort(changed, phantom.parent), phantom.parent).seconds


def test_the_time_follows_from_measured_rates(
    study: Study, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 patients, 7 trials and the winner again, 3 epochs, 5 folds; 480 images in the bank.

    The winner is then trained 5 times on everybody.
    """
    monkeypatch.setattr(
        "analysis.show.forecast.measure_rates", lambda _: Rates(trunk=10.0, head=4.0)
    )
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    head = 48 * 3 * (8 * (4 + 1 / 3) + 5) / 4.0
    assert seconds(study, phantom) == pytest.approx(30 + (head + 480 / 10) / 3)
    one = seconds(study, phantom, resources={"slots": 1})
    assert one == pytest.approx(30 + head + 480 / 10)
    crowded = seconds(study, phantom, resources={"slots": 3, "cpus_per_trial": 2})
    assert crowded == pytest.approx(30 + (head + 480 / 10) / 2), "no more at a time than fit"
    off = seconds(study, phantom, bank={"mode": "off"}, resources={"slots": 1})
    assert off == pytest.approx(30 + head + 48 * 3 * (8 * 5 + 5) * 2 / 10)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(3, Rates(trunk=TOGETHER["cpu"] / 0.5, head=32 / 0.5)), ("all", Rates(np.inf, 8.0))],
)
def test_rates_are_measured_with_the_threads_of_a_trial(
    study: Study,
    phantom: Path,
    monkeypatch: pytest.MonkeyPatch,
    layers: int | str,
    expected: Rates,
) -> None:
    """All that is measured is done once, and said to take half a second: no real clock decides."""
    content = yaml.safe_load(study.as_yaml())
    content["network"] |= {"trainable_layers": layers}
    content["resources"] |= {"cpus_per_trial": 2}
    study = Study.model_validate(content)
    asked, real = [], torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda n: (asked.append(n), real(n)))
    monkeypatch.setattr("trainable.speed._seconds", lambda work: (work(), 0.5)[1])
    before = torch.get_num_threads()
    problem = Problem(study, read_cohort(study, phantom.parent), phantom.parent, "cpu")
    rates = measure_rates(problem)
    assert asked == [2, before]
    assert torch.get_num_threads() == before
    assert rates == expected


def test_the_shortest_time_counts_and_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two measured times, .2 and .15 seconds, are long enough together."""
    done, clock = [], iter((0.0, 0.2, 0.2, 0.35))
    monkeypatch.setattr("trainable.speed.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert _seconds(lambda: done.append(1)) == pytest.approx(0.15)
    assert len(done) == 3
