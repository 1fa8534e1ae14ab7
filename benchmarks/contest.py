"""One backbone, three contestants, the same trials: times, bare rates, and whether AUCs agree."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.measuring import summarise
from benchmarks.peer import Job
from benchmarks.standalone import bare_costs
from benchmarks.timeline import Timeline, time_ours, time_peer
from benchmarks.workload import CONFIGURATIONS, CORES, NAMES, Sizes, Workload

PEERS = ("plain", "tuned")
CONTESTANTS = (*PEERS, "ours")
LEAST_EFFICIENCY = 0.85
# Half of what one wrongly ordered pair costs a fold of 13 patients, about .03 to .05; the SD of a
# fold's AUC is several times that. Differences below it would not change what a search chooses.
LARGEST_DIFFERENCE = 0.02
LINE_TOLERANCE = 0.1
CLEARLY_CHEAPER = 0.95
Say = Callable[[str], None]


@dataclass(frozen=True)
class Contest:
    """What one backbone gave.

    Attributes:
        backbone: its name in a study file.
        patients: development patients.
        timelines: by contestant, one for each repeat.
        bare: ms per patient, trial and epoch: the tuned peer's ``network``, our ``head``, and our
            ``trunk`` if it ran in every pass.
        tuned_at_a_time: how many trials at a time the tuned peer runs.
    """

    backbone: str
    patients: int
    timelines: dict[str, list[Timeline]]
    bare: dict[str, float]
    tuned_at_a_time: int

    def costs(self, who: str) -> list[float]:
        """Return ms per patient, trial and epoch of each repeat."""
        return [timeline.per_patient(self.patients) for timeline in self.timelines[who]]

    def cost(self, who: str) -> float:
        """Return the median of ``costs``."""
        return statistics.median(self.costs(who))

    def start_up(self, who: str) -> float:
        """Return the median start-up in seconds."""
        return statistics.median(timeline.start_up for timeline in self.timelines[who])

    @property
    def efficiency(self) -> float:
        """The share of its bare rate that the tuned peer reaches."""
        return self.bare["network"] / self.cost("tuned")

    @property
    def allowed(self) -> float:
        """Tuned/ours if both reached their bare rates."""
        return self.bare["network"] / self.bare["head"]

    def ratio(self, peer: str) -> float:
        """Return how many times more a peer's trial-epochs cost than ours."""
        return self.cost(peer) / self.cost("ours")

    @property
    def share(self) -> float:
        """The share of ``allowed`` that we reach."""
        return self.ratio("tuned") / self.allowed

    def agreement(self, peer: str) -> dict[str, Any]:
        """Return ours minus the peer's AUC, paired by repeat, trial and fold.

        A fold's AUC is its mean over the compared epochs, as in the score of a trial. The interval
        is Student's over all pairs; folds of one repeat share patients, so it is a little narrow.
        """
        pairs = zip(self.timelines["ours"], self.timelines[peer], strict=True)
        differences = np.concatenate([_differences(own, other) for own, other in pairs])
        mean, error = float(differences.mean()), float(stats.sem(differences))
        half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
        agrees = abs(mean) <= half or abs(mean) < LARGEST_DIFFERENCE
        interval = [mean - half, mean + half]
        return {
            "pairs": len(differences),
            "mean": mean,
            "interval": interval,
            "largest_difference": LARGEST_DIFFERENCE,
            "agrees": agrees,
        }

    def void(self, peer: str) -> str:
        """Return why a peer's row does not count; empty if it does."""
        if not self.agreement(peer)["agrees"]:
            return "its AUCs are others than ours"
        if peer == "tuned" and self.efficiency < LEAST_EFFICIENCY:
            return f"below {LEAST_EFFICIENCY:.0%} of its own bare rate"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return everything for the result file."""
        return {
            "backbone": self.backbone,
            "patients": self.patients,
            "rows": {
                who: {
                    "ms_per_patient_trial_epoch": summarise(self.costs(who)),
                    "start_up_s": summarise([t.start_up for t in self.timelines[who]]),
                    "wall_s": summarise([t.wall for t in self.timelines[who]]),
                    "arrivals_s": [t.arrivals for t in self.timelines[who]],
                    "trials_at_a_time": self.timelines[who][0].at_a_time,
                    "auc": [_listed(t) for t in self.timelines[who]],
                }
                | ({"void": self.void(who)} if who in PEERS else {})
                for who in CONTESTANTS
            },
            "ratios": {f"{peer}/ours": self.ratio(peer) for peer in PEERS},
            "auc_ours_minus_peer": {peer: self.agreement(peer) for peer in PEERS},
            "bare_ms_per_patient_trial_epoch": self.bare,
            "tuned_share_of_its_bare_rate": self.efficiency,
            "tuned/ours_that_bare_rates_allow": self.allowed,
            "share_of_that_reached": self.share,
        }


def _differences(ours: Timeline, other: Timeline) -> np.ndarray:
    """Return ours minus the other's AUC of each trial and fold, over the epochs both ran."""
    keys = sorted(ours.auc.keys() & other.auc.keys())
    if len(keys) != len(other.auc):
        raise RuntimeError("the contestants ran other trials or folds")
    by_fold: dict[tuple[int, int], list[float]] = {}
    for key in keys:
        trial, _, fold = key
        by_fold.setdefault((trial, fold), []).append(ours.auc[key] - other.auc[key])
    return np.array([np.mean(values) for values in by_fold.values()])


def _listed(timeline: Timeline) -> list[list[float]]:
    return [[*key, value] for key, value in sorted(timeline.auc.items())]


def hold(work: Workload, sizes: Sizes, say: Say) -> Contest:
    """Measure one backbone; the contestants take turns, so that drift strikes all alike."""
    backbone = str(work.network["backbone"])
    name, configurations = NAMES[backbone], CONFIGURATIONS[: sizes.trials]
    timelines: dict[str, list[Timeline]] = {who: [] for who in CONTESTANTS}
    bare: dict[str, float] = {}
    tuned_at_a_time = CORES
    for repeat in range(sizes.repeats):
        run = work.begin_run(
            f"ours_{repeat}",
            seed=repeat,
            epochs=sizes.our_epochs,
            trials=sizes.trials,
            configurations=configurations,
        )
        if not bare:
            say(f"{name}: bare loops")
            layouts, head, trunk = bare_costs(run, sizes.bare_seconds, sizes.layouts)
            tuned_at_a_time = choose_layout(layouts)
            bare = {"network": layouts[tuned_at_a_time], "head": head, "trunk": trunk}
            bare |= {f"network_{k}_at_a_time": cost for k, cost in layouts.items()}
        for peer, at_a_time in (("plain", CORES), ("tuned", tuned_at_a_time)):
            say(f"{name}: {peer}, repeat {repeat + 1} of {sizes.repeats}")
            out = work.folder / f"{peer}_{repeat}" / "reports.json"
            job = _job(run.root, configurations, sizes.epochs, at_a_time, out)
            timelines[peer].append(time_peer(peer, job))
        say(f"{name}: ours, repeat {repeat + 1} of {sizes.repeats}")
        timelines["ours"].append(time_ours(run, sizes.our_epochs))
    return Contest(backbone, work.patients, timelines, bare, tuned_at_a_time)


def choose_layout(costs: Mapping[int, float]) -> int:
    """Return how many trials the tuned peer runs at a time.

    One a core, unless fewer are clearly cheaper: threads of one trial wait for each other, and for
    whatever else the cores do.

    >>> choose_layout({2: 10.0, 1: 9.8}), choose_layout({2: 10.0, 1: 8.0})
    (2, 1)
    """
    first, *others = costs
    cheapest = min(others, key=costs.__getitem__, default=first)
    return cheapest if costs[cheapest] < CLEARLY_CHEAPER * costs[first] else first


def check_line(contest: Contest, work: Workload, sizes: Sizes, say: Say) -> dict[str, Any]:
    """Compare what a peer's line predicts for a longer search of other patients with the truth."""
    found: dict[str, Any] = {"patients": work.patients, "tolerance": LINE_TOLERANCE}
    configurations = CONFIGURATIONS[: sizes.line_trials]
    trial_epochs = sizes.line_trials * sizes.line_epochs
    run = work.begin_run(
        "line",
        seed=0,
        epochs=sizes.line_epochs,
        trials=sizes.line_trials,
        configurations=configurations,
    )
    for peer, at_a_time in (("plain", CORES), ("tuned", contest.tuned_at_a_time)):
        say(f"{NAMES[contest.backbone]}: is the time of {peer} a line?")
        out = work.folder / f"{peer}_line" / "reports.json"
        timeline = time_peer(
            peer, _job(run.root, configurations, sizes.line_epochs, at_a_time, out)
        )
        predicted = extrapolated(contest, peer, trial_epochs, work.patients)
        found[peer] = {
            "predicted_s": predicted,
            "measured_s": timeline.wall,
            "holds": abs(timeline.wall / predicted - 1) <= LINE_TOLERANCE,
        }
    return found


def extrapolated(contest: Contest, peer: str, trial_epochs: int, patients: int) -> float:
    """Return the seconds that a peer's line gives."""
    return contest.start_up(peer) + trial_epochs * patients * contest.cost(peer) / 1000


def _job(root: Path, configurations: Sequence[Any], epochs: int, at_a_time: int, out: Path) -> Job:
    values = [configuration.as_dict() for configuration in configurations]
    return Job(str(root), values, epochs, at_a_time, str(out))
