"""Choosing a configuration, and writing it down to the last bit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from finished_run import Run

from analysis.choose.choice import Selection, choose, near_end
from analysis.choose.select import select
from analysis.statistics.folds import paired_difference
from spaces.errors import NoCompleteTrialError
from spaces.parameters import Choices, Configuration, Range
from spaces.run_files import read_json
from spaces.study import Study, read_study
from spaces.trial_log import Epoch, TrialRecord, best_epoch, read_trials, scores

EPOCHS = 4


def make_study(**changes: object) -> Study:
    content = {
        "name": "s",
        "cohort": {
            "path": "cohort.csv",
            "inputs": ["reserve"],
            "target": "impaired",
            "colour_scale": "fixed",
        },
        "training": {"epochs": EPOCHS},
        "search": {"trials": 4},
    }
    return Study.model_validate(content | changes)


def make_trial(number: int, fold_auc: list[list[float]], **values: float) -> TrialRecord:
    """Return a complete trial; ``fold_auc`` is epochs x folds."""
    defaults = {"lambda_": 0.5, "learning_rate": 1e-3, "weight_decay": 1e-2}
    configuration = Configuration(**defaults | {"augmentation_strength": 0.5} | values)
    means = [float(np.mean(row)) for row in fold_auc]
    epochs = [Epoch(e + 1, tuple(row), 0.5, {}, 0.5, 1.0) for e, row in enumerate(fold_auc)]
    return TrialRecord(
        number,
        configuration,
        "tpe",
        epochs,
        "complete",
        score=scores(means, EPOCHS)[-1],
        best_epoch=best_epoch(means, EPOCHS),
    )


def constant(*folds: float) -> list[list[float]]:
    return [list(folds)] * EPOCHS


def test_the_highest_score_wins_and_ties_go_to_the_lowest_number() -> None:
    trials = [make_trial(n, constant(a, a)) for n, a in enumerate([0.6, 0.8, 0.8, 0.7])]
    selection = choose(make_study(), trials)
    assert selection.chosen.trial.number == 1
    assert [trial.number for trial in selection.ranking] == [1, 2, 3, 0]


def test_a_stopped_trial_with_a_higher_score_is_not_chosen() -> None:
    stopped = dataclasses.replace(make_trial(0, constant(0.9, 0.9)), state="stopped")
    selection = choose(make_study(), [stopped, make_trial(1, constant(0.6, 0.6))])
    assert selection.chosen.trial.number == 1
    assert [trial.number for trial in selection.ranking] == [1, 0]


def test_the_fold_scores_are_means_over_the_best_window() -> None:
    trial = make_trial(0, [[0.5, 0.5], [0.6, 0.9], [0.7, 0.8], [0.8, 0.7]])
    choice = choose(make_study(), [trial]).chosen
    assert choice.epochs == 4
    assert choice.fold_auc == pytest.approx((0.7, 0.8))
    assert choice.score == pytest.approx(trial.score)


def test_the_standard_error_is_nadeau_and_bengios() -> None:
    first, second = [0.81, 0.84, 0.79, 0.9, 0.86], [0.8, 0.8, 0.8, 0.8, 0.8]
    mean, error = paired_difference(first, second)
    assert mean == pytest.approx(0.04)
    assert error == pytest.approx(np.std(first, ddof=1) * np.sqrt(1 / 5 + 1 / 4))


def test_the_one_se_choice_prefers_simplicity_among_what_the_folds_cannot_tell_apart() -> None:
    best = make_trial(0, constant(0.90, 0.80, 0.85, 0.88, 0.82))
    near = make_trial(1, constant(0.85, 0.84, 0.84, 0.83, 0.84), weight_decay=0.09)
    nearer_but_smaller_decay = make_trial(2, constant(0.86, 0.83, 0.85, 0.84, 0.83))
    far = make_trial(3, constant(0.80, 0.70, 0.75, 0.78, 0.72), weight_decay=0.1)
    selection = choose(make_study(), [best, near, nearer_but_smaller_decay, far])
    assert selection.alternatives["one_se"].trial.number == 1
    assert selection.chosen.trial.number == 0


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        ({"weight_decay": 0.05}, {"weight_decay": 0.01}),
        ({"learning_rate": 1e-4}, {"learning_rate": 1e-3}),
        ({"lambda_": 0.45}, {"lambda_": 0.7}),
    ],
)
def test_one_se_ties_are_broken_in_the_promised_order(
    simpler: dict[str, float], other: dict[str, float]
) -> None:
    trials = [
        make_trial(0, constant(0.8, 0.8), **other),
        make_trial(1, constant(0.8, 0.8), **simpler),
    ]
    assert choose(make_study(), trials).alternatives["one_se"].trial.number == 1


def test_fewer_epochs_come_before_everything_else() -> None:
    late = make_trial(0, [[0.8, 0.8], [0.8, 0.8], [0.8, 0.8], [0.80, 0.82]], weight_decay=0.1)
    early = make_trial(1, constant(0.8, 0.8), weight_decay=0.001)
    selection = choose(make_study(), [late, early])
    assert selection.chosen.epochs == 4
    assert selection.alternatives["one_se"].trial.number == 1
    assert selection.alternatives["one_se"].epochs == 3


def test_the_study_file_decides_which_rule_is_primary() -> None:
    trials = [
        make_trial(0, constant(0.85, 0.80)),
        make_trial(1, constant(0.80, 0.84), weight_decay=0.1),
    ]
    for rule, number in (("best", 0), ("one_se", 1)):
        assert (
            choose(make_study(evaluation={"selection": rule}), trials).chosen.trial.number == number
        )


@pytest.mark.parametrize(
    ("parameter", "value", "end"),
    [
        (Range(low=0.0, high=1.0), 0.04, 0.0),
        (Range(low=0.0, high=1.0), 0.06, None),
        (Range(low=0.0, high=1.0), 0.96, 1.0),
        (Range(low=1e-5, high=1e-2, log=True), 1.3e-5, 1e-5),
        (Range(low=1e-5, high=1e-2, log=True), 5e-4, None),
        (Range(low=1e-5, high=1e-2, log=True), 7.5e-3, 1e-2),
        (Choices(choices=[0.0, 0.5, 1.0]), 1.0, 1.0),
        (Choices(choices=[0.0, 0.5, 1.0]), 0.5, None),
        (Choices(choices=[0.5]), 0.5, None),
    ],
)
def test_the_end_of_a_range_is_near_on_its_own_scale(
    parameter: Range | Choices, value: float, end: float | None
) -> None:
    assert near_end(parameter, value) == end


def test_a_winner_at_the_end_of_its_range_is_warned_about() -> None:
    study = make_study(search={"trials": 1})
    trials = [
        make_trial(n, constant(0.8, 0.8), learning_rate=9.9e-3, lambda_=1.0) for n in range(4)
    ]
    warnings = choose(study, trials).warnings
    assert warnings == (
        "lambda = 1 lies at the end of its range (1): a limit of the parameter itself.",
        "learning_rate = 0.0099 lies at the end of its range (0.01): consider a wider range.",
    )


def test_the_warnings_are_those_of_the_rule_that_is_primary() -> None:
    trials = [
        make_trial(0, constant(0.85, 0.80)),
        make_trial(1, constant(0.80, 0.84), weight_decay=0.1),
    ]
    study = make_study(evaluation={"selection": "one_se"})
    assert any("weight_decay" in warning for warning in choose(study, trials).warnings)
    assert not any("weight_decay" in warning for warning in choose(make_study(), trials).warnings)


def test_too_few_complete_trials_are_called_under_searched() -> None:
    trials = [make_trial(n, constant(0.8, 0.8)) for n in range(4)]
    assert choose(make_study(), trials).warnings == ()
    assert (
        choose(make_study(search={"trials": 20}), trials)
        .warnings[0]
        .startswith("Under-searched: 4")
    )


def test_no_complete_trial_is_an_error_that_names_a_reason() -> None:
    failed = TrialRecord(0, Configuration(1, 1, 1, 1), "tpe", state="failed", reason="loss is nan")
    with pytest.raises(
        NoCompleteTrialError, match=r"none of 1 trials is complete \(0: loss is nan"
    ):
        choose(make_study(), [failed])


def test_a_fixed_study_keeps_its_number_of_epochs() -> None:
    values = {
        "lambda": 0.5,
        "learning_rate": 1e-3,
        "weight_decay": 1e-2,
        "augmentation_strength": 0.5,
    }
    trial = make_trial(0, [[0.9, 0.9], [0.9, 0.9], [0.9, 0.9], [0.6, 0.7]])
    choice = choose(make_study(space=values), [trial]).chosen
    assert choice.epochs == EPOCHS
    assert choice.fold_auc == pytest.approx((0.8, (0.9 + 0.9 + 0.7) / 3))


def selected(run: Run) -> tuple[Selection, Configuration, Configuration]:
    selection = select(run.files)
    fixed = read_study(run.files.best_study).space.fixed()
    return selection, selection.chosen.trial.configuration, Configuration.from_mapping(fixed)


def test_best_yaml_reads_back_equal_to_the_last_bit(run: Run) -> None:
    selection, configuration, read_back = selected(run)
    assert configuration.lambda_ == 0.1 + 0.2 != 0.3
    assert read_back == configuration
    best = read_study(run.files.best_study)
    assert best.training.epochs == selection.chosen.epochs
    assert best.is_fixed
    assert best.evidence is not None
    assert best.evidence.trial == selection.chosen.trial.number
    assert best.evidence.score == selection.chosen.score
    asked = {t.number: t.configuration for t in read_trials(run.files.trials)}
    assert asked[selection.chosen.trial.number] == read_back


def test_every_exported_study_finds_the_cohort_from_where_it_lies(run: Run) -> None:
    select(run.files)
    exported = [run.files.best_study, *(run.files.ranked_study(rank) for rank in range(1, 5))]
    names = set()
    for path in exported:
        study = read_study(path)
        assert (path.parent / study.cohort.path).resolve() == run.csv.resolve()
        names.add(study.name)
    assert len(names) == len(exported)
    assert "tiny" not in names
    assert not run.files.ranked_study(5).exists()


def test_bank_and_weights_paths_follow_into_the_subfolder(run: Run) -> None:
    weights = f"{{file: w.safetensors, sha256: {'ab' * 32}}}"
    run.edit_study("weights: random", f"weights: {weights}")
    run.files.study.write_text(run.files.study.read_text() + "bank: {path: /scratch/bank}\n")
    select(run.files)
    ranked = read_study(run.files.ranked_study(1))
    assert ranked.network.weights.file == "../w.safetensors"
    assert ranked.bank.path == "/scratch/bank"


def test_best_json_holds_the_choice_the_ranking_and_no_patient(run: Run) -> None:
    selection = select(run.files)
    best = read_json(run.files.best, "best")
    trial = selection.chosen.trial
    assert (best["trial"], best["epochs"]) == (trial.number, trial.best_epoch)
    assert best["configuration"] == trial.configuration.as_dict()
    assert best["oof_sha256"] == trial.oof_sha256
    assert best["counts"] == {"asked": 7, "complete": 4, "stopped": 2, "failed": 1}
    assert [row["rank"] for row in best["ranking"]] == [1, 2, 3, 4, None, None, None]
    assert best["split_sha256"] == run.cohort.split.sha256
    assert "secret" not in run.files.best.read_text()


def test_selecting_again_writes_the_same_bytes(run: Run) -> None:
    def content() -> dict[Path, bytes]:
        paths = [run.files.best, run.files.best_study, *run.files.root.glob("best/*")]
        return {path: path.read_bytes() for path in paths}

    select(run.files)
    before = content()
    select(run.files)
    assert content() == before
    assert len(before) == 6


def test_selecting_from_a_fixed_study_keeps_its_evidence(run: Run) -> None:
    select(run.files)
    evidence = read_study(run.files.best_study).evidence
    run.files.study.write_bytes(run.files.best_study.read_bytes())
    select(run.files)
    assert read_study(run.files.best_study).evidence == evidence
