"""Which configuration to keep: the best score, the one-standard-error choice, and the warnings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.statistics.folds import paired_difference
from spaces.errors import NoCompleteTrialError
from spaces.parameters import LAMBDA, NAMES, Choices, Range
from spaces.study import Study
from spaces.trial_log import WINDOW, TrialRecord

BEST = "best"
ONE_SE = "one_se"
LOGITS_NOT_TRAINED = "lambda = 0: the logits were not trained"
# Within this share of a range's length from its end, the optimum may lie outside.
NEAR = 0.05
# The limits of the parameters themselves: a range that ends there cannot be widened.
NATURAL_LIMITS = frozenset(
    {(LAMBDA, 0.0), (LAMBDA, 1.0), ("augmentation_strength", 0.0), ("augmentation_strength", 1.0)}
)


def why_not_trained(best: Mapping[str, Any]) -> str | None:
    """Return why nothing that is made of the model's two logits is a result; None where it is.

    Args:
        best: of best.json.
    """
    return LOGITS_NOT_TRAINED if best["configuration"][LAMBDA] == 0 else None


@dataclass(frozen=True)
class Choice:
    """One complete trial and how it would be trained again.

    Attributes:
        trial: the trial.
        rank: 1 = highest score among the complete trials.
        epochs: the epochs to train: the last of the best window; all of them in a fixed study.
        fold_auc: validation AUC of each fold, mean over the window that ends there.
    """

    trial: TrialRecord
    rank: int
    epochs: int
    fold_auc: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean over the folds."""
        return math.fsum(self.fold_auc) / len(self.fold_auc)

    @property
    def score_sd(self) -> float:
        """Standard deviation over the folds (divisor n - 1)."""
        return statistics.stdev(self.fold_auc)


@dataclass(frozen=True)
class Selection:
    """What the search gave.

    Attributes:
        primary: ``best`` or ``one_se``, as the study file decided beforehand.
        alternatives: the choice under each rule.
        ranking: all trials: complete ones by score, then stopped ones by score, then the rest.
        complete: one choice for each complete trial, by rank.
        difference: mean paired fold difference, best minus one-SE choice.
        standard_error: Nadeau and Bengio's standard error of that difference.
        warnings: sentences for the report.
    """

    primary: str
    alternatives: Mapping[str, Choice]
    ranking: tuple[TrialRecord, ...]
    complete: tuple[Choice, ...]
    difference: float
    standard_error: float
    warnings: tuple[str, ...] = field(default=())

    @property
    def chosen(self) -> Choice:
        """The choice that is retrained and judged on the test set."""
        return self.alternatives[self.primary]


def choose(study: Study, trials: Sequence[TrialRecord]) -> Selection:
    """Return the highest-scoring complete trial (ties: lowest number) and the one-SE choice.

    Raises:
        NoCompleteTrialError: no trial trained all its epochs.
    """
    ranking = tuple(sorted(trials, key=_rank_key))
    complete = tuple(
        _choice(study, trial, rank)
        for rank, trial in enumerate((t for t in ranking if t.is_complete), start=1)
    )
    if not complete:
        states = ", ".join(f"{trial.number}: {trial.reason or trial.state}" for trial in trials[:3])
        raise NoCompleteTrialError(
            "trials.jsonl",
            f"none of {len(trials)} trials is complete" + (f" ({states})" if states else ""),
            "Read run.log, mend the cause and run the study again",
        )
    best, simple = complete[0], _one_se(complete)
    difference, standard_error = paired_difference(best.fold_auc, simple.fold_auc)
    primary = study.evaluation.selection
    alternatives = {BEST: best, ONE_SE: simple}
    chosen = alternatives[primary]
    warnings = (*_coverage_warnings(study, complete), *_boundary_warnings(study, chosen))
    return Selection(primary, alternatives, ranking, complete, difference, standard_error, warnings)


def _rank_key(trial: TrialRecord) -> tuple[int, float, int]:
    order = {"complete": 0, "stopped": 1}.get(trial.state or "", 2)
    return order, -(trial.score if trial.score is not None else -math.inf), trial.number


def _choice(study: Study, trial: TrialRecord, rank: int) -> Choice:
    """Return a complete trial with the fold AUCs of the window it would be judged by.

    A fixed study was told how long to train, so no window of it is preferred.
    """
    if study.is_fixed or trial.best_epoch is None:
        epochs = study.training.epochs
    else:
        epochs = trial.best_epoch
    return Choice(trial, rank, epochs, window_auc(trial, epochs))


def window_auc(trial: TrialRecord, epochs: int) -> tuple[float, ...]:
    """Return each fold's validation AUC, mean over the window that ends at ``epochs``."""
    window = trial.epochs[max(0, epochs - WINDOW) : epochs]
    return tuple(math.fsum(fold) / len(fold) for fold in zip(*(e.auc for e in window), strict=True))


def _one_se(complete: Sequence[Choice]) -> Choice:
    """Return the simplest of the choices that the folds cannot tell from the best one."""
    best = complete[0]

    def is_near(choice: Choice) -> bool:
        mean, standard_error = paired_difference(best.fold_auc, choice.fold_auc)
        return choice is best or mean <= standard_error

    def complexity(choice: Choice) -> tuple[float, ...]:
        values = choice.trial.configuration
        return (
            choice.epochs,
            -values.weight_decay,
            values.learning_rate,
            abs(values.lambda_ - 0.5),
            choice.trial.number,
        )

    return min(filter(is_near, complete), key=complexity)


def _coverage_warnings(study: Study, complete: Sequence[Choice]) -> list[str]:
    needed = study.search.startup
    if study.is_fixed or len(complete) >= needed:
        return []
    found = f"{len(complete)} complete trials, fewer than {needed}"
    return [f"Under-searched: {found}; another configuration may well be better."]


def _boundary_warnings(study: Study, chosen: Choice) -> list[str]:
    values = chosen.trial.configuration.as_dict()
    found = []
    for name in NAMES:
        parameter = study.space.searched().get(name)
        end = None if parameter is None else near_end(parameter, values[name])
        if end is None:
            continue
        limit = (name, end) in NATURAL_LIMITS
        advice = "a limit of the parameter itself" if limit else "consider a wider range"
        found.append(
            f"{name} = {values[name]:.3g} lies at the end of its range ({end:g}): {advice}."
        )
    return found


def near_end(parameter: Range | Choices, value: float) -> float | None:
    """Return the end of the range that ``value`` lies within 5 % of, on the range's own scale."""
    if isinstance(parameter, Choices):
        ends = (parameter.choices[0], parameter.choices[-1])
        return value if len(parameter.choices) > 1 and value in ends else None
    low, high, at = parameter.low, parameter.high, value
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    share = (at - low) / (high - low)
    if share <= NEAR:
        return parameter.low
    return parameter.high if share >= 1 - NEAR else None
