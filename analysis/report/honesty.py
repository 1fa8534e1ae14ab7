"""What stands behind the result: looks at the test set, optimism, replay, seeds, unknowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from analysis.choose.choice import BEST
from analysis.judge.answer import number, plain, say_p, why_exploratory
from analysis.judge.luck import luck_sentence
from analysis.report.membership import Membership
from spaces.study import Study


class Opened(Protocol):
    """One line of the ledger of openings."""

    @property
    def when(self) -> str:
        """ISO 8601, UTC."""

    @property
    def run(self) -> str:
        """Which run read the outcomes."""


@dataclass(frozen=True)
class Statement:
    """One line of the honesty box.

    Attributes:
        question: what a reviewer asks.
        answer: in words and numbers.
        origin: the file that says so.
    """

    question: str
    answer: str
    origin: str


def own_up(
    study: Study,
    best: Mapping[str, Any] | None,
    model: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    *,
    openings: Sequence[Opened],
    elsewhere: Sequence[Opened],
    external: Sequence[Mapping[str, Any]] = (),
    membership: Membership | None = None,
) -> list[Statement]:
    """Return every statement of the honesty box, in the order in which it is read."""
    found = [_say_openings(openings, elsewhere)]
    untrained = metrics["model"].get("skipped") if metrics else None
    if metrics:
        found.append(_say_status(metrics))
    if metrics and not untrained:
        found.append(_say_optimism(study, best, metrics))
    if study.transfer is not None:
        found.append(_say_transfer(study))
    if model:
        found.append(_say_replay(model))
    found.append(_say_seeds(study, metrics))
    found += [
        Statement(
            "What do the intervals cover?",
            "The sampling of patients only: not that of folds, seeds or configurations, nor of "
            "another set of development patients.",
            "methods",
        ),
        _say_untrained(untrained) if untrained else _say_comparisons(study, metrics, membership),
        _say_where(study, external),
        Statement("What is it for?", "Research only; no medical device.", "README"),
    ]
    return found


def _say_where(study: Study, external: Sequence[Mapping[str, Any]]) -> Statement:
    said = "One cohort, split within itself, to be read as a single centre: no external validation."
    if external:
        cohorts = "; ".join(
            f"{its['external']} (n = {its['n']}, opening {its['openings']} of these patients)"
            for its in external
        )
        said = f"Its own cohort is to be read as a single centre. External validation: {cohorts}."
    return Statement(
        "Where does it hold?",
        f"{said} Another centre, scanner, tracer or colour scale (here: "
        f"{study.cohort.colour_scale}) may give other results, and another prevalence other "
        "predictive values.",
        "study.yaml, external/" if external else "study.yaml",
    )


def _say_untrained(reason: str) -> Statement:
    said = f"No number was named beforehand: there is no AUC ({reason}). Everything describes."
    return Statement("How many comparisons?", said, "test/metrics.json")


def _say_comparisons(
    study: Study, metrics: Mapping[str, Any] | None, membership: Membership | None
) -> Statement:
    beside = ""
    if metrics is None or metrics["differences"]:
        beside = ", beside logistic regression with an L2 penalty"
    rest = "Everything else describes; no interval is corrected for how many there are."
    if membership is None:
        said = f"One number was named beforehand: the test AUC{beside}. {rest}"
        return Statement("How many comparisons?", said, "methods")
    target = plain(study.cohort.target)
    its = f"this study is that of {target}"
    if not membership.is_headline:
        its = f"that of {target} is {membership.headline_input}, so this study is secondary"
    said = (
        f"This is one of {membership.studies} studies of the campaign {membership.campaign}, "
        "judged in one opening. For each target one number was named beforehand: the test AUC of "
        f"its headline input, the one with the highest development score{beside}; {its}. By "
        f"permuted labels this study's AUC has p {say_p(membership.p_holm)} after Holm's "
        f"correction over the {membership.family} studies of its step. {rest}"
    )
    return Statement("How many comparisons?", said, "test/membership.json")


def _say_openings(here: Sequence[Opened], elsewhere: Sequence[Opened]) -> Statement:
    if not here:
        said = "Nobody has opened this test set."
    else:
        times = "Once, by" if len(here) == 1 else f"{len(here)} times, last by"
        said = f"{times} {here[-1].run} ({moment(here[-1].when)})."
    if elsewhere:
        count = len(elsewhere)
        times = "1 time" if count == 1 else f"{count} times"
        said += (
            f" Outcomes of this cohort were opened under other splits too: {times}, last by "
            f"{elsewhere[-1].run} ({moment(elsewhere[-1].when)})."
        )
    return Statement("How often was the test set opened?", said, "ledger beside the cohort")


def moment(when: str) -> str:
    """Return an ISO 8601 time as printed."""
    return when.replace("T", " ").replace("+00:00", " UTC")


def _say_status(metrics: Mapping[str, Any]) -> Statement:
    why = why_exploratory(metrics)
    regressions = "regressions " if metrics["differences"] else ""
    said = (
        f"Exploratory: {why}. Whoever chose may have known outcomes."
        if why
        else f"The first opening: model, thresholds, {regressions}and test predictions were frozen "
        "before the outcomes were joined. The digests prove what was frozen, not who knew what."
    )
    return Statement("Is it exploratory?", said, "test/frozen.json, test/metrics.json")


def _say_optimism(
    study: Study, best: Mapping[str, Any] | None, metrics: Mapping[str, Any]
) -> Statement:
    development = metrics["development"]
    corrected, n = development["bias_corrected_score"], development["n"]
    score = f"{number(development['score'], 3)} (SD over folds {number(development['score_sd'], 3)}"
    score += f"; development n = {n}, {development['positives']} positive)"
    if corrected is not None:
        asked = {"trials": study.search.trials, "epochs": study.training.epochs}
        luck = luck_sentence(n, development["positives"] / n, **asked)
        said = (
            f"The best of many scores flatters: {score}. Bias-corrected over all trials and epochs "
            f"(bootstrap bias-corrected cross-validation, {development['bootstraps']} resamples) "
            f"it is {number(corrected, 3)}. {luck}"
        ).rstrip()
    elif study.is_fixed:
        said = f"Nothing was searched in this run, so the score is not corrected: {score}."
        if study.evidence:
            said += " The configuration came from a search, whose luck stays in it."
    elif best and best["primary"] != BEST:
        said = f"The score of the one-standard-error rule is not corrected: {score}."
    else:
        said = f"The score could not be corrected: {score}."
    return Statement("Is the search's score optimistic?", said, "test/frozen.json")


def _say_transfer(study: Study) -> Statement:
    assert study.transfer is not None
    return Statement(
        "Does it start from another run?",
        f"Yes: fold k starts from fold model k of {study.transfer.run}, with new logits, so that "
        "no layer has seen the patients that it validates. That "
        "run's configuration was selected on all development folds, and so was this one's: the "
        "out-of-fold scores may be flattered by both choices. The test set took part in neither.",
        "study.yaml, model/model.json",
    )


def _say_replay(model: Mapping[str, Any]) -> Statement:
    replay = model["replay"]
    said = (
        "The fold models were trained again and gave the predictions of the search to the last bit."
        if replay["bit_equal"]
        else "The fold models were trained again and differ from the search by up to "
        f"{replay['largest_difference']:.2g} (logits)."
    )
    return Statement("Can it be repeated?", said, "model/model.json")


def _say_seeds(study: Study, metrics: Mapping[str, Any] | None) -> Statement:
    one = (
        f"Study {study.seed}, split {study.cohort.split.seed}, augmentation "
        f"{study.augmentation.view_seed}: one of each"
    )
    seeds = None if metrics is None else metrics.get("seeds")
    if seeds is None:
        said = f"{one}. How much results vary between seeds was not measured."
        return Statement("Which seeds?", said, "study.yaml")
    aucs, diverged = seeds["auc"], seeds["diverged"]
    spread = f" (SD {number(seeds['sd'], 3)})" if seeds["sd"] is not None else ""
    failed = f" {diverged} of its further trainings diverged." if diverged else ""
    said = (
        f"{one}. Trained {len(aucs)} times on the development set, with other starting weights of "
        "the classifier and another order of patients, the chosen configuration reached test AUCs "
        f"from {number(seeds['lowest'])} to {number(seeds['highest'])}{spread}; the first, "
        f"{number(aucs[0])}, is the model (test n = {metrics['n'] if metrics else 0}).{failed} "
        "Folds and search were not repeated."
    )
    return Statement("Which seeds?", said, "test/metrics.json")
