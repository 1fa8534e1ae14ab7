"""The benchmark against peers: its arithmetic, its peers' networks, and a run of tiny size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from patience import PATIENCE
from torchvision.transforms import v2

from benchmarks.contest import Contest, choose_layout, extrapolated
from benchmarks.peer import Patients, open_patients
from benchmarks.plain import PlainFold, PolarMaps, transform_of
from benchmarks.standalone import epoch_batches
from benchmarks.timeline import Timeline
from benchmarks.tuned import Halves, TunedFold, turn
from benchmarks.workload import CONFIGURATIONS, LITE, phantom_workload
from cohort.reading.images import read_images
from spaces.study import AugmentationSection
from spaces.trial_log import read_trials
from trainable.augment import augment
from trainable.network import draw_linear, prepare
from trainable.seeds import torch_generator

HOME = Path(__file__).parents[2]
BATCH, SIZE = 4, 32


def timeline(areas: np.ndarray, *, start_up: float = 7.0, cost: float = 0.5) -> Timeline:
    """A search of (trials, epochs, folds) whose trials advance by turns, two at a time."""
    trials, epochs, _ = areas.shape
    total = trials * epochs
    # Two slots: both report together, a tenth of a second apart.
    arrivals = [start_up + cost * 2 * (at // 2 + 1) + 0.1 * (at % 2) - 0.1 for at in range(total)]
    values = {tuple(map(int, at)): float(value) for at, value in np.ndenumerate(areas)}
    return Timeline(start_up + cost * total, tuple(arrivals), 2, values)


def contest(*, tuned_cost: float = 0.5, shift: float = 0.0, noise: float = 0.0) -> Contest:
    generator = np.random.default_rng(0)
    ours = generator.uniform(0.6, 0.9, size=(3, 2, 3, 5))
    other = ours - shift + noise * generator.standard_normal(ours.shape)
    timelines = {
        "plain": [timeline(one) for one in other],
        "tuned": [timeline(one, cost=tuned_cost) for one in ours],
        "ours": [timeline(one, cost=0.05) for one in ours],
    }
    bare = {"network": 10.0, "head": 0.8, "trunk": 5.0}
    return Contest(LITE, 40, timelines, bare, 2)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Patients:
    work = phantom_workload(tmp_path_factory.mktemp("peers") / "work", LITE, 32, SIZE)
    run = work.begin_run("run", seed=3, epochs=2, trials=2, configurations=CONFIGURATIONS)
    asked = [(trial.source, trial.configuration) for trial in read_trials(run.trials)]
    assert asked == [("enqueued", one) for one in CONFIGURATIONS[:2]]
    return open_patients(run, 2)


def test_a_line_gives_back_the_start_up_and_the_cost_it_was_made_of() -> None:
    found = timeline(np.zeros((2, 3, 5)), start_up=7.0, cost=0.5)
    assert found.trial_epoch == pytest.approx(0.5)
    assert found.start_up == pytest.approx(7.0)
    assert found.per_patient(50) == pytest.approx(10.0)


def test_a_line_is_taken_to_more_trials_epochs_and_patients() -> None:
    assert extrapolated(contest(), "plain", 160, 80) == pytest.approx(7 + 160 * 80 * 0.0125)


def test_ratios_compare_medians_with_what_bare_rates_allow() -> None:
    found = contest()
    assert found.ratio("tuned") == pytest.approx(10.0)
    assert found.allowed == pytest.approx(12.5)
    assert found.share == pytest.approx(0.8)
    assert found.efficiency == pytest.approx(0.8)


def test_a_tuned_peer_below_its_own_bare_rate_is_void() -> None:
    assert "bare rate" in contest(tuned_cost=0.5).void("tuned")
    assert contest(tuned_cost=0.46).void("tuned") == ""


def test_a_peer_with_other_areas_is_void_and_noise_is_not() -> None:
    assert "AUC" in contest(shift=0.05, noise=0.01).void("plain")
    assert contest(shift=0.015, noise=0.001).void("plain") == ""
    assert contest(shift=0.03, noise=0.5).void("plain") == ""
    assert contest().agreement("plain")["pairs"] == 3 * 2 * 5


def test_fewer_trials_at_a_time_must_be_clearly_cheaper() -> None:
    assert choose_layout({2: 10.0, 1: 9.8}) == 2
    assert choose_layout({2: 10.0, 1: 8.0}) == 1


def test_bare_loops_see_each_patient_in_five_passes() -> None:
    batches = epoch_batches(np.arange(64) % 5, 32)
    assert sum(count for count, trains in batches if trains) == 4 * 64
    assert sum(count for count, trains in batches if not trains) == 64
    assert max(count for count, _ in batches) == 32


def test_both_peers_start_as_the_whole_network_and_train_three_layers(patients: Patients) -> None:
    network, config = patients.network(), CONFIGURATIONS[0].as_dict()
    draw_linear(network.classifier, torch_generator(3, 1, "classifier"))
    plain = PlainFold(1, patients.network(), patients, config)
    halves = Halves(patients.network(), 3, torch.float32)
    tuned = TunedFold(1, 3, halves, config)
    pixels = torch.randn(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(pixels)
        assert torch.equal(plain.model(pixels), expected)
        own = tuned.predict(pixels.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(own, expected, atol=1e-5)
    trained = {name for name, one in plain.model.named_parameters() if one.requires_grad}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in trained} == {
        *("classifier", "_conv_head", "_bn1", "_project_conv", "_bn2"),
    }
    count = sum(len(group["params"]) for group in tuned.optimiser.param_groups)
    assert count == len(trained) == len(plain.optimiser.param_groups[0]["params"])


def test_a_step_of_the_tuned_peer_changes_its_tail_and_nothing_it_shares(
    patients: Patients,
) -> None:
    halves = Halves(patients.network(), 3, torch.bfloat16)
    folds = [TunedFold(fold, 0, halves, CONFIGURATIONS[1].as_dict()) for fold in range(2)]
    stem = {name: value.clone() for name, value in halves.stem.state_dict().items()}
    other = [value.clone() for value in folds[1].tail.state_dict().values()]
    before = {name: value.clone() for name, value in folds[0].tail.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator).to(torch.bfloat16)
    segments = torch.randn(BATCH, 17, generator=generator)
    folds[0].update(pixels, torch.tensor([0.0, 1, 0, 1]), segments)
    after = folds[0].tail.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert not any("running" in name for name in changed)
    assert all(torch.equal(halves.stem.state_dict()[name], stem[name]) for name in stem)
    assert all(map(torch.equal, folds[1].tail.state_dict().values(), other))


def test_the_tuned_peer_turns_images_as_we_do() -> None:
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    images[..., :8], images[..., -8:], images[..., :8, :], images[..., -8:, :] = 0, 0, 0, 0
    draws = torch.rand(2, BATCH, generator=torch.Generator().manual_seed(5)) * 2 - 1
    drawn = np.concatenate([draws.double().numpy().T, np.zeros((BATCH, 1))], axis=1)
    section = AugmentationSection()
    expected = augment(images, drawn, 0.5, section)
    found = turn(
        images,
        section.rotation * 0.5,
        section.rescaling * 0.5,
        torch.Generator().manual_seed(5),
    )
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_plain_peer_sees_our_images_and_augments_within_our_limits(
    patients: Patients,
) -> None:
    segments = patients.standardised(0)
    assert torch.allclose(segments[patients.folds != 0].mean(0), torch.zeros(17), atol=1e-5)
    shown = PolarMaps(patients, segments, transform_of(patients, 0.0))
    ours = prepare(torch.from_numpy(read_images(patients.files[:3], SIZE)), LITE)
    theirs = torch.stack([shown[row][0] for row in range(3)])
    # Two libraries round a resized pixel differently: one grey level is 1/128.
    assert float((ours - theirs).abs().max()) <= 2 / 128
    [affine] = [
        step for step in transform_of(patients, 0.5).transforms if isinstance(step, v2.RandomAffine)
    ]
    assert list(affine.degrees) == [-5.0, 5.0]
    assert list(affine.scale) == [0.95, 1.05]


@pytest.mark.slow
def test_a_quick_benchmark_measures_every_row(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--out", str(out)],
        cwd=HOME,
        env={**os.environ, "PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= max(80, len(f"... Wrote {out}") + 20)
    results = json.loads(out.read_text(encoding="utf-8"))
    assert results["format"] == "polartune/benchmark-results/1"
    assert results["quick"] is True
    assert results["machine"]["packages"]["ray"]
    [found] = results["contests"]
    assert {who: row["trials_at_a_time"] for who, row in found["rows"].items()} == {
        "plain": 2,
        "tuned": 2,
        "ours": 2,
    }
    for who, row in found["rows"].items():
        epochs = 3 if who == "ours" else 2
        assert len(row["wall_s"]["values"]) == 1
        assert [len(arrivals) for arrivals in row["arrivals_s"]] == [2 * epochs]
        assert len(row["auc"][0]) == 2 * epochs * 5
        assert row["ms_per_patient_trial_epoch"]["median"] > 0
    assert found["auc_ours_minus_peer"]["plain"]["pairs"] == 10
    assert {"network", "head", "trunk"} <= set(found["bare_ms_per_patient_trial_epoch"])
    whole = results["whole"]
    assert (whole["trials"], whole["epochs"], len(whole["ours_wall_s"]["values"])) == (2, 2, 1)
    assert set(whole["ratios"]) == {"plain/ours", "tuned/ours"}
    assert all(isinstance(goal["reached"], bool) for goal in results["goals"])
    assert len(results["goals"]) == 7
