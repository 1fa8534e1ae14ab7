"""What a run directory holds so far, read once for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.choose.choice import why_not_trained
from analysis.judge.answer import why_exploratory
from analysis.judge.external import read_external_judgements
from analysis.judge.freeze import BASELINES
from cohort.table import Cohort
from spaces.run_files import RunFiles, read_json
from spaces.study import Study, read_study
from spaces.trial_log import TrialRecord, read_trials


@dataclass(frozen=True)
class Findings:
    """What the run directory holds so far; None where a step has not been done.

    Attributes:
        study: the study as run.
        trials: those of the log.
        best: of best.json.
        model: of model/model.json.
        metrics: of test/metrics.json.
        baselines: of test/baselines.json.
        environment: of environment.json.
        is_phantom: whether the patients are invented.
        external: of external/NAME/metrics.json, every other cohort that the model was judged on.
    """

    study: Study
    trials: list[TrialRecord]
    best: Mapping[str, Any] | None
    model: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None
    baselines: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    is_phantom: bool
    external: Sequence[Mapping[str, Any]]

    def missing(self) -> list[tuple[str, str]]:
        """Return the steps that were not done, with the command that does each."""
        steps = (
            ("search", "polartune run STUDY", bool(self.trials)),
            ("selection", "polartune select RUN", self.best is not None),
            ("retraining", "polartune retrain RUN", self.model is not None),
            ("evaluation on the test set", "polartune evaluate RUN", self.metrics is not None),
        )
        return [(name, command) for name, command, is_done in steps if not is_done]

    def flags(self) -> list[str]:
        """Return what a reader must know before any number."""
        flags = []
        if self.is_phantom:
            flags.append("phantom: drawn maps of invented patients")
        if self.metrics is None:
            flags.append("test set not evaluated by this run")
        elif self.metrics["exploratory"]:
            flags.append(f"exploratory: {why_exploratory(self.metrics)}")
        if self.study.network.weights == "random":
            flags.append("random trunk: the network was not pretrained")
        untrained = why_not_trained(self.best) if self.best else None
        if untrained is not None:
            flags.append(untrained)
        if self.is_under_searched:
            flags.append("under-searched")
        if self.study.search.order == "asynchronous" and not self.study.is_fixed:
            flags.append("asynchronous search: proposals depend on timing")
        if self.model and not self.model["replay"]["bit_equal"]:
            flags.append("replay differs from the search")
        return flags

    def doubts(self) -> list[str]:
        """Return what not to believe whatever the numbers say."""
        doubts = []
        if self.is_phantom:
            doubts.append("Anything about patients: these are drawn ones; they test the software.")
        if self.study.network.weights == "random":
            doubts.append("That a pretrained network does no better: this one had random weights.")
        if self.is_under_searched:
            doubts.append("That this is the best configuration: the search was too small to say.")
        if self.model and not self.model["replay"]["bit_equal"]:
            doubts.append("That it repeats exactly: retraining differed from the search.")
        return doubts

    @property
    def is_under_searched(self) -> bool:
        """Whether too few trials were completed."""
        warnings = self.best["warnings"] if self.best else []
        return any("Under-searched" in text for text in warnings)


def read_findings(run: RunFiles, cohort: Cohort) -> Findings:
    """Return everything the report is made of.

    Raises:
        InputError: a file is damaged.
        RefusedError: another version wrote a file.
    """
    return Findings(
        study=read_study(run.study),
        trials=read_trials(run.trials),
        best=_read(run.best, "best"),
        model=_read(run.model / "model.json", "model"),
        metrics=_read(run.metrics, "metrics"),
        baselines=_read(run.test / BASELINES, "baselines"),
        environment=_read(run.environment, "environment"),
        is_phantom=cohort.is_phantom,
        external=read_external_judgements(run),
    )


def _read(path: Path, kind: str) -> dict[str, Any] | None:
    return read_json(path, kind) if path.exists() else None
