"""Training the choice again: for its own epochs, checked against the search, never diverged."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from finished_run import EPOCHS, Run

from analysis.choose.fold_segments import DIGEST, read_out_of_fold_segments
from analysis.choose.retrain import retrain
from analysis.choose.select import select
from spaces.errors import InputError, NoModelError
from spaces.parameters import Configuration
from spaces.run_files import read_json, read_out_of_fold, sha256_of, write_json
from trainable.loss import Scale


def features_of(rows: np.ndarray) -> torch.Tensor:
    """Stand in for what the classifier sees."""
    return torch.from_numpy(np.random.default_rng(0).normal(size=(len(rows), 8)))


@dataclass
class Loop:
    """Stands in for ``CrossValidation``: repeats the logits of the search, epoch by epoch."""

    configuration: Configuration
    searched: np.ndarray
    folds: int
    diverges_at: int | None = None
    epoch: int = 0
    trainings: list[SimpleNamespace] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.folds):
            head = SimpleNamespace(trained=lambda: {"epoch": self.epoch})
            self.trainings.append(
                SimpleNamespace(
                    fold=SimpleNamespace(number=number),
                    head=head,
                    scale=None,
                    represent=features_of,
                )
            )

    def advance(self) -> SimpleNamespace:
        self.epoch += 1
        return SimpleNamespace(
            epoch=self.epoch,
            auc=(0.8,) * (self.folds if self.folds > 1 else 0),
            seconds=1.0,
            logits=self.searched[self.epoch - 1],
            finite=self.epoch != self.diverges_at,
        )


@dataclass
class Problem:
    """Stands in for ``trainable.problem.Problem``; a test sets which loop diverges, and when."""

    searched: np.ndarray
    patients: int
    folds_diverge_at: int | None = None
    final_diverges_at: int | None = None
    repeats_diverge_at: dict[int, int] = field(default_factory=dict)
    loops: dict[str, Loop] = field(default_factory=dict)
    dtype: str = "torch.float32"
    first_step: None = None

    @property
    def folds(self) -> np.ndarray:
        return np.arange(self.patients) % 5

    def cross_validation(self, configuration: Configuration) -> Loop:
        self.loops["folds"] = Loop(configuration, self.searched, 5, self.folds_diverge_at)
        return self.loops["folds"]

    def development_training(self, configuration: Configuration, *, repeat: int = 0) -> Loop:
        nothing = np.full_like(self.searched, np.nan)  # it validates nobody
        name = f"seed {repeat}" if repeat else "final"
        end = self.repeats_diverge_at.get(repeat) if repeat else self.final_diverges_at
        self.loops[name] = Loop(configuration, nothing, 1, end)
        return self.loops[name]

    def trained_state(self, training: SimpleNamespace) -> dict[str, int]:
        return training.head.trained()

    def frozen_of(self, fold: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(trunk_sha256=f"trunk of fold {fold.number}")


@pytest.fixture
def problem(run: Run, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """The selected run's problem, behind ``open_problem``; weights say how long was trained."""
    select(run.files)
    best = read_json(run.files.best, "best")
    searched = read_out_of_fold(run.files.out_of_fold_of(best["trial"])).copy()
    problem = Problem(searched, len(run.cohort.development))

    def save_head(path: Path, trained: dict[str, int], *, trunk_sha256: str) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{trained['epoch']} epochs on {trunk_sha256}")
        return sha256_of(path)

    def save_weights(folder: Path, state: dict[str, int]) -> str:
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_text(f"{state['epoch']} epochs")
        return sha256_of(folder / "model.safetensors")

    opened, written = ModuleType("trainable.problem"), ModuleType("trainable.model")
    opened.open_problem = lambda *_: problem  # type: ignore[attr-defined]
    written.save_head, written.save_weights = save_head, save_weights  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trainable.problem", opened)
    monkeypatch.setitem(sys.modules, "trainable.model", written)
    return problem


def again(run: Run) -> dict[str, object]:
    return retrain(run.files, lambda function, work: [function(*one) for one in work], "cpu")


def test_both_are_trained_for_the_chosen_epochs_with_the_chosen_values(
    run: Run, problem: Problem
) -> None:
    info = again(run)
    best = read_json(run.files.best, "best")
    assert best["epochs"] == EPOCHS - 1
    for loop in problem.loops.values():
        assert loop.epoch == best["epochs"]
        assert loop.configuration == Configuration.from_mapping(best["configuration"])
    assert (run.files.model / "model.safetensors").read_text() == "5 epochs"
    heads = sorted(path.name for path in run.files.model.glob("folds/*"))
    assert heads == [f"{fold}.safetensors" for fold in range(5)]
    assert {path.name for path in run.files.seeds.iterdir()} == info["seeds"].keys()
    assert sorted(problem.loops) == ["final", "folds", "seed 1", "seed 2", "seed 3", "seed 4"]
    assert read_json(run.files.model / "model.json", "model").items() >= info.items()


def test_the_replay_is_compared_at_the_chosen_epoch(run: Run, problem: Problem) -> None:
    problem.searched[EPOCHS - 1] += 9
    replay = again(run)["replay"]
    assert (replay["bit_equal"], replay["largest_difference"]) == (True, 0.0)


def test_a_replay_that_differs_says_by_how_much(run: Run, problem: Problem) -> None:
    problem.searched[EPOCHS - 2, 7, 1] += 0.5
    replay = again(run)["replay"]
    assert not replay["bit_equal"]
    assert replay["largest_difference"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("which", "said"),
    [("folds_diverge_at", "a fold model"), ("final_diverges_at", "the development-set model")],
)
def test_a_model_that_diverged_is_an_error_that_names_the_runner_up(
    run: Run, problem: Problem, which: str, said: str
) -> None:
    setattr(problem, which, 3)
    with pytest.raises(NoModelError, match=f"^retrain: {said} diverged") as raised:
        again(run)
    message = str(raised.value)
    assert "(non-finite loss at epoch 3)" in message
    assert message.endswith(f"configuration: polartune run {run.files.ranked_study(2)}.")
    assert "\n" not in message
    assert not (run.files.model / "model.json").exists()


def test_a_further_training_that_diverges_is_told_and_costs_nothing_else(
    run: Run, problem: Problem
) -> None:
    problem.repeats_diverge_at = {2: 3}
    seeds = again(run)["seeds"]
    assert isinstance(seeds, dict)
    assert [name for name, digest in seeds.items() if digest is None] == ["2.safetensors"]
    assert not (run.files.seeds / "2.safetensors").exists()
    problem.loops.clear()
    again(run)
    assert not problem.loops, "what diverges once is not trained again and again"


def test_a_choice_that_is_not_the_best_one_advises_the_best(run: Run, problem: Problem) -> None:
    best = read_json(run.files.best, "best")
    del best["format"]
    write_json(run.files.best, "best", best | {"rank": 2})
    problem.final_diverges_at = 1
    with pytest.raises(InputError, match=r"polartune run .*best/1\.yaml\.$"):
        again(run)


def test_without_a_runner_up_none_is_advised(run: Run, problem: Problem) -> None:
    run.files.ranked_study(2).unlink()
    problem.final_diverges_at = 1
    with pytest.raises(InputError, match=r"Select another configuration\.$"):
        again(run)


def test_a_finished_model_of_the_same_choice_is_kept(run: Run, problem: Problem) -> None:
    first = again(run)
    problem.loops.clear()
    assert again(run).items() >= first.items()
    assert not problem.loops
    for damaged in ("model.safetensors", "folds/1.safetensors", "seeds/3.safetensors"):
        (run.files.model / damaged).write_text("others")
        problem.loops.clear()
        again(run)
        assert problem.loops


class Scaled:
    """A fold's training that predicts standard deviations above its own training mean."""

    def __init__(self, number: int, lambda_: float) -> None:
        self.fold = SimpleNamespace(number=number, validation=np.arange(number, 80, 5))
        self.head = SimpleNamespace(trained=lambda: {"epoch": 1})
        self.scale = Scale(np.full(17, 10.0 * number), np.full(17, 2.0))
        self.configuration = SimpleNamespace(lambda_=lambda_)
        self.represent = features_of

    def predict(self, rows: np.ndarray) -> torch.Tensor:
        assert (rows == self.fold.validation).all()
        return torch.from_numpy(np.repeat(rows[:, None], 19, axis=1).astype(np.float32))


@pytest.mark.parametrize("lambda_", [0.3, 1.0])
def test_fold_models_leave_their_segment_values_in_the_units_of_the_column(
    run: Run, problem: Problem, monkeypatch: pytest.MonkeyPatch, lambda_: float
) -> None:
    def scaled(self: Loop) -> None:
        self.trainings += [Scaled(number, lambda_) for number in range(self.folds)]

    monkeypatch.setattr(Loop, "__post_init__", scaled)
    run.files.model.mkdir()
    run.files.out_of_fold_segments.write_text("of an earlier choice")
    problem.patients = len(run.cohort.development)
    digest = again(run)[DIGEST]
    if lambda_ == 1:
        assert digest is None
        assert not run.files.out_of_fold_segments.exists()
        return
    values = read_out_of_fold_segments(run.files.out_of_fold_segments, digest)
    patients = np.arange(80)
    assert (values == (10 * (patients % 5) + 2 * patients)[:, None]).all()
