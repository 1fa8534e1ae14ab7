"""`polartune check`: its numbers against a plain count, and that it touches nothing."""

import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from analysis.show.campaign_forecast import forecast_campaign
from analysis.show.check import show_forecast, show_patients, show_size, to_pay
from analysis.show.forecast import Computing, Forecast, Size, forecast, half_width
from cohort.table import read_cohort
from polartune import commands
from spaces.campaign import read_campaign
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
    for fold in range(1, 6):
        [line] = [line for line in lines if line.startswith(f"  fold {fold} ")]
        of_fold = target[folds == fold - 1]
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


def test_where_a_class_is_hardly_expected_no_width_is_told(study: Study, phantom: Path) -> None:
    assert np.isnan(half_width(0.8, 5, 0.09, study))
    told = shown_size(study, phantom)
    assert "an AUC of 0.8 on the test set would be known to about" in told
    size = Size.of(study, read_cohort(study, phantom.parent))
    scarce = as_shown(study, replace(size, half_width=math.nan))
    assert "nan" not in scarce
    assert "known to about" not in scarce
    assert "warning too few expected events to say how well the test AUC would be known" in scarce


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
    return as_shown(changed, Size.of(changed, read_cohort(changed, phantom.parent)))


def as_shown(study: Study, size: Size) -> str:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=80, record=True, file=nowhere)
        show_size(study, size, console)
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


def test_a_study_without_a_classification_loss_is_warned_that_it_has_no_auc(
    study: Study, phantom: Path
) -> None:
    warning = "space.lambda 0 trains no logits: there will be no AUC, only segment values"
    assert warning in shown_size(study, phantom, space={"lambda": 0.0})
    assert warning not in shown_size(study, phantom, space={"lambda": 0.5})


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


def predicted(study: Study, phantom: Path, **changes: object) -> Forecast:
    content = yaml.safe_load(study.as_yaml())
    for section, values in changes.items():
        content[section] = content.get(section, {}) | values
    changed = Study.model_validate(content)
    return forecast(changed, read_cohort(changed, phantom.parent), phantom.parent)


def test_the_time_follows_from_measured_rates(
    study: Study, phantom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 patients, 7 trials and the winner again, 3 epochs, 5 folds; 480 images in the bank.

    The winner is then trained 5 times on everybody. Attention is two passes of each of 12 test
    patients, of two shown ones 15 x 15 squares of two kinds, and of at most 16, here 12, the map
    whole and without each of 17 segments: 1140 passes of 2 maps.
    """
    rates = Rates(trunk=10.0, head=4.0, trunk_operations=7e9, head_operations=2e9)
    monkeypatch.setattr("analysis.show.forecast.measure_rates", lambda _: rates)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    samples = 48 * 3 * (8 * (4 + 1 / 3) + 5) + 1140 / 3
    head, trunk = samples / 4.0, (480 + 2 * 1140) / 10
    cost = predicted(study, phantom)
    assert cost.seconds == pytest.approx(30 + (head + trunk) / 3)
    whole = cost.filling + cost.training
    assert whole.seconds == pytest.approx(head + trunk)
    assert whole.operations == pytest.approx(7e9 * (480 + 2 * 1140) + 2e9 * samples)
    one = predicted(study, phantom, resources={"slots": 1})
    assert one.seconds == pytest.approx(30 + head + trunk)
    crowded = predicted(study, phantom, resources={"slots": 3, "cpus_per_trial": 2})
    assert crowded.seconds == pytest.approx(30 + (head + trunk) / 2), "no more at a time than fit"
    assert crowded.size.cores == 2
    off = predicted(study, phantom, bank={"mode": "off"}, resources={"slots": 1})
    each_time = 48 * 3 * (8 * 5 + 5) * 2 + 2 * 1140
    assert off.seconds == pytest.approx(30 + head + each_time / 10)
    unseen = predicted(study, phantom, evaluation={"attention": False}, resources={"slots": 1})
    trained = 48 * 3 * (8 * (4 + 1 / 3) + 5)
    assert unseen.seconds == pytest.approx(30 + trained / 4.0 + 480 / 10)


def test_what_is_to_pay_is_said(study: Study, phantom: Path) -> None:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=80, record=True, file=nowhere)
        size = Size.of(study, read_cohort(study, phantom.parent))
        done = Computing(900.0, 4e15), Computing(8100.0, 3.2e16)
        show_forecast(Forecast(size, 480, 10**6, 10**9, *done, at_a_time=2), console)
    said = " ".join(console.export_text().split())
    assert "at most about 76 min on" in said
    assert "at most 2.5 core-hours on cores like these, or 1 GPU-hours at 10 TFLOP/s" in said
    assert to_pay(Computing(3600.0, 0.0), 4).startswith("at most 4 core-hours on cores like these")
    assert "or 0.01 GPU-hours" in to_pay(Computing(3600.0, 0.0), 4)


@pytest.mark.parametrize(("layers", "banks"), [(None, 1), (1, 4), (4, 2)])
def test_a_campaign_fills_each_bank_once(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int | None, banks: int
) -> None:
    """2 maps of 48 patients, 5 images and views of each.

    A second step of the same layers reads the same bank, of more layers one of its own, of fewer
    layers one for each fold and one for the final model.
    """
    rates = Rates(trunk=10.0, head=4.0, trunk_operations=7e9, head_operations=2e9)
    monkeypatch.setattr("analysis.show.forecast.measure_rates", lambda _: rates)
    shared = {name: CONTENT[name] for name in ("augmentation", "space", "training", "search")}
    section = {"derive": {"impaired_any": {"below": 2.6}}, "colour_scale": "fixed"}
    file = tmp_path / "campaign.yaml"
    campaign = {
        "format": "polartune/campaign/1",
        "name": "all",
        "inputs": {"rest": ["rest"], "stack": ["rest", "stress"]},
        "targets": ["impaired_any"],
        "transfer": {"targets": ["sex", "hypertension"], "trainable_layers": layers},
        "study": shared
        | {"network": CONTENT["network"], "cohort": section | {"path": str(phantom)}}
        | {"resources": {"slots": 3}},
    }
    campaign["study"]["cohort"]["split"] = {"test": 12, "folds": 2}
    file.write_text(yaml.safe_dump(campaign))
    plan = read_campaign(file, tmp_path / "runs")
    cohorts = [read_cohort(member.study, plan.folder) for member in plan.members]
    cost = forecast_campaign(plan, cohorts)
    assert (cost.studies, cost.trials) == (6, 6 * 7)
    share = float(np.mean(cohorts[-1].development.target))
    assert cost.half_widths["hypertension"] == half_width(0.8, 12, share, plan.members[-1].study)
    assert cost.images == banks * 2 * 48 * 5
    alone = forecast(plan.members[0].study, cohorts[0], plan.folder)
    both = forecast(plan.members[1].study, cohorts[1], plan.folder)
    trained = 3 * (alone.training.seconds + both.training.seconds)
    assert cost.computing.seconds == pytest.approx(trained + cost.images / 10)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(3, (TOGETHER["cpu"] / 0.5, 32 / 0.5)), ("all", (np.inf, 8.0))],
)
def test_rates_are_measured_with_the_threads_of_a_trial(
    study: Study,
    phantom: Path,
    monkeypatch: pytest.MonkeyPatch,
    layers: int | str,
    expected: tuple[float, float],
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
    assert (rates.trunk, rates.head) == expected
    assert (rates.trunk_operations > 0) == (layers == 3)
    # Late stacking: two maps pass the network, whose products are done forward and backward.
    passed = FlopCounterMode(display=False)
    with passed, torch.no_grad():
        problem.network.eval()(*torch.zeros(2, 1, 3, 32, 32))
    whole = passed.get_total_flops()
    trained = rates.head_operations + 3 * 2 * rates.trunk_operations
    assert trained == pytest.approx(3 * whole, rel=0.01)


def test_the_shortest_time_counts_and_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two measured times, .2 and .15 seconds, are long enough together."""
    done, clock = [], iter((0.0, 0.2, 0.2, 0.35))
    monkeypatch.setattr("trainable.speed.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert _seconds(lambda: done.append(1)) == pytest.approx(0.15)
    assert len(done) == 3
