"""The honesty box: looks at the test set, optimism, replay, seeds, transfer."""

from types import SimpleNamespace
from typing import Any

import pytest
from finished_run import Run

from analysis.report.honesty import own_up
from spaces.run_files import read_json
from spaces.study import Study, read_study


def answers(run: Run, study: Study | None = None, **changes: Any) -> dict[str, str]:
    parts: dict[str, Any] = {
        "best": read_json(run.files.best, "best"),
        "model": read_json(run.files.model / "model.json", "model"),
        "metrics": read_json(run.files.metrics, "metrics"),
    } | changes
    openings = parts.pop("openings", [SimpleNamespace(when="2026-01-02T03:04:05+00:00", run="r")])
    elsewhere = parts.pop("elsewhere", [])
    statements = own_up(
        study or read_study(run.files.study), **parts, openings=openings, elsewhere=elsewhere
    )
    assert all(statement.origin for statement in statements)
    return {statement.question: statement.answer for statement in statements}


def test_openings_are_counted_with_their_time(evaluated: Run) -> None:
    question = "How often was the test set opened?"
    assert answers(evaluated)[question] == "Once, by r (2026-01-02 03:04:05 UTC)."
    twice = [SimpleNamespace(when="a", run="r"), SimpleNamespace(when="b", run="s")]
    assert answers(evaluated, openings=twice)[question] == "2 times, last by s (b)."
    assert answers(evaluated, openings=[])[question] == "Nobody has opened this test set."


def test_a_first_opening_is_not_called_exploratory_and_a_second_is(evaluated: Run) -> None:
    question = "Is it exploratory?"
    assert answers(evaluated)[question].startswith("The first opening")
    metrics = read_json(evaluated.files.metrics, "metrics") | {"exploratory": True, "openings": 2}
    said = answers(evaluated, metrics=metrics)[question]
    assert said.startswith("Exploratory: opening 2 of this test set")


def test_optimism_is_corrected_or_the_reason_is_given(evaluated: Run) -> None:
    question = "Is the search's score optimistic?"
    said = answers(evaluated)[question]
    metrics = read_json(evaluated.files.metrics, "metrics")
    development = metrics["development"]
    assert f"it is {development['bias_corrected_score']:.3f}." in said
    assert f"development n = {development['n']}, {development['positives']} positive" in said
    metrics["development"] = development | {"bias_corrected_score": None}
    assert "could not be corrected" in answers(evaluated, metrics=metrics)[question]
    best = read_json(evaluated.files.best, "best") | {"primary": "one_se"}
    said = answers(evaluated, metrics=metrics, best=best)[question]
    assert "one-standard-error rule is not corrected" in said
    said = answers(evaluated, read_study(evaluated.files.best_study), metrics=metrics)[question]
    assert "Nothing was searched in this run" in said
    assert "whose luck stays in it" in said


def test_a_replay_that_differs_is_measured(evaluated: Run) -> None:
    question = "Can it be repeated?"
    assert "to the last bit" in answers(evaluated)[question]
    replay = {"replay": {"bit_equal": False, "largest_difference": 0.0123}}
    assert (
        "differ from the search by up to 0.012 (logits)"
        in answers(evaluated, model=replay)[question]
    )


def test_a_second_step_says_where_it_starts_and_what_was_chosen_on_what(evaluated: Run) -> None:
    question = "Does it start from another run?"
    assert question not in answers(evaluated)
    study = read_study(evaluated.files.study)
    text = evaluated.files.study.read_text() + "transfer: {run: ../first}\n"
    path = evaluated.files.root.parent / "second.yaml"
    path.write_text(text)
    try:
        second = read_study(path)
    finally:
        path.unlink()
    assert study.transfer is None
    said = answers(evaluated, second)[question]
    assert "fold k starts from fold model k of ../first, with new logits" in said
    assert "selected on all development folds" in said


@pytest.mark.parametrize("said", ["no external validation", "single centre", "fixed"])
def test_where_it_holds_is_never_left_out(evaluated: Run, said: str) -> None:
    assert said in answers(evaluated)["Where does it hold?"]
    alone = answers(evaluated, best=None, model=None, metrics=None, openings=[])
    assert said in alone["Where does it hold?"]


def test_seeds_and_what_intervals_cover_are_said(evaluated: Run) -> None:
    said = answers(evaluated)
    assert said["Which seeds?"].startswith("Study 7, split 0, augmentation 0: one of each.")
    assert said["What do the intervals cover?"].startswith("The sampling of patients only")
