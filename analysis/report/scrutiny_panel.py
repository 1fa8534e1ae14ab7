"""The report's panels on probabilities, decisions and subgroups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.judge.answer import SPACE, limits, number, percent
from analysis.judge.judgement import OUT_OF_FOLD as OOF_FILES
from analysis.judge.segment_values import OUT_OF_FOLD, TEST
from analysis.report.drawing import Figure
from analysis.report.figures import draw_decision
from analysis.report.panels import table_of
from analysis.statistics.bootstrap import LOGIT_DELONG, PERCENTILE
from analysis.statistics.curves import WALD
from analysis.statistics.metrics import Estimate
from spaces.run_files import RunFiles

SETS = {OUT_OF_FOLD: "out-of-fold, development", TEST: "test"}
ORIGINS = {OUT_OF_FOLD: f"{OOF_FILES}, chosen trial", TEST: "test/metrics.json"}
QUANTITIES = {
    "slope": ("calibration slope", "ideal 1", WALD),
    "in_the_large": ("calibration in the large", "intercept, slope fixed at 1; ideal 0", WALD),
    "brier": ("Brier score", "lower is better", PERCENTILE),
}


@dataclass(frozen=True)
class Value:
    """An estimate as printed.

    Attributes:
        said: the estimate.
        span: its interval.
        below: n, or what stands below.
        unreliable: why the interval cannot be relied on, or None.
    """

    said: str
    span: str
    below: str
    unreliable: str | None = None


@dataclass(frozen=True)
class SubgroupTable:
    """The AUCs in both groups of each trait, of one set of patients.

    Attributes:
        title: whose.
        rows: (trait or group, value or why there is none); the difference follows its groups.
    """

    title: str
    rows: Sequence[tuple[str, Value | str]]


@dataclass
class ScrutinyPanel:
    """What else was asked of the model.

    Attributes:
        calibration: (quantity, its ideal, out-of-fold, test).
        shift: whether the threshold means the same to the final model, as a sentence.
        subgroups: out-of-fold and test.
        figures: the decision curve, if a range was declared.
    """

    calibration: list[tuple[str, str, Value, Value]] = field(default_factory=list)
    shift: str = ""
    subgroups: list[SubgroupTable] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)


def show_scrutiny(run: RunFiles, metrics: Mapping[str, Any]) -> ScrutinyPanel:
    """Return the panels and write their tables; empty where the logits were not trained."""
    panel = ScrutinyPanel()
    if "calibration" not in metrics:
        return panel
    for quantity, (label, ideal, method) in QUANTITIES.items():
        before, after = (_value(metrics["calibration"][of][quantity], method, 2) for of in SETS)
        panel.calibration.append((label, ideal, before, after))
    records = [
        _record(its, method, ORIGINS[of]) | {"quantity": quantity, "patients": SETS[of]}
        for of, found in metrics["calibration"].items()
        for quantity, its in found.items()
        for method in its["intervals"]
    ]
    table_of(run, "calibration_estimates", pd.DataFrame(records))
    panel.shift = _say_shift(metrics)
    groups = {title: metrics["subgroups"][of] for of, title in SETS.items()}
    if any(groups.values()):
        panel.subgroups = [list_subgroups(title, traits) for title, traits in groups.items()]
        records = [
            its for title, traits in groups.items() for its in subgroup_records(title, traits)
        ]
        frame = pd.DataFrame(records).astype({"n": "Int64", "positives": "Int64"})
        table_of(run, "subgroups", frame)
    if metrics["decision"] is not None:
        panel.figures["decision"] = _show_decision(run, metrics)
    return panel


def list_subgroups(title: str, traits: Sequence[Mapping[str, Any]]) -> SubgroupTable:
    """Return the groups of every trait, each pair followed by its difference.

    Args:
        title: whose they are.
        traits: what ``judge_subgroups`` said of them.
    """
    rows: list[tuple[str, Value | str]] = []
    for trait in traits:
        rows += [(group["name"], _group(group)) for group in trait["groups"]]
        said = trait["reason"] or _value(trait["difference"], PERCENTILE, 2)
        rows.append(("difference, first minus second", said))
    return SubgroupTable(title, rows)


def subgroup_records(title: str, traits: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one record for each group, difference and interval; arguments as above."""
    for trait in traits:
        head = {"patients": title, "trait": trait["trait"], "reason": trait["reason"]}
        for group in trait["groups"]:
            counts = {name: group[name] for name in ("n", "positives")}
            yield from _spread(head | {"what": group["name"]} | counts, group["auc"])
        difference = trait["difference"]
        n = {"n": difference["n"] if difference else None, "positives": None}
        yield from _spread(head | {"what": "difference"} | n, difference)


def _group(group: Mapping[str, Any]) -> Value | str:
    counts = "counts not shown"
    if group["n"] is not None:
        counts = f"n = {group['n']}, {group['positives']} positive"
    if group["auc"] is None:
        return f"no AUC: fewer than 10 of a class ({counts})"
    value = _value(group["auc"], LOGIT_DELONG, 2)
    return Value(value.said, value.span, counts, value.unreliable)


def _spread(head: Mapping[str, Any], estimate: Estimate | None) -> list[dict[str, Any]]:
    if estimate is None:
        return [{**head, "estimate": None, "method": "", "low": None, "high": None}]
    return [
        {**head, "estimate": estimate["estimate"], "method": method}
        | {"low": its["low"], "high": its["high"], "unreliable": estimate["unreliable"]}
        for method, its in estimate["intervals"].items()
    ]


def _show_decision(run: RunFiles, metrics: Mapping[str, Any]) -> Figure:
    low, high = metrics["decision"]["range"]
    curve = pd.DataFrame(metrics["decision"]["curve"])
    n, positives = metrics["n"], metrics["positives"]
    data = table_of(run, "decision", curve.assign(n=n, positives=positives, origin=ORIGINS[TEST]))
    level = f"{100 * metrics['confidence']:g}{SPACE}%"
    caption = (
        f"Decision curve on the test set (n = {n}, {positives} positive) over the range that the "
        f"study file declared, {low:g} to {high:g}: net benefit of acting on the model's "
        f"probability, against acting on everybody or nobody. Shaded, {level} percentile "
        "intervals, each for itself. It takes probabilities as they stand."
    )
    return Figure(draw_decision(curve), caption, [data])


def _say_shift(metrics: Mapping[str, Any]) -> str:
    shift, level = metrics["threshold_shift"], f"{100 * metrics['confidence']:g}{SPACE}%"
    n, folds, difference = shift["n"], shift["folds"], shift["difference"]
    lowest, highest = min(folds), max(folds)
    between = f"{lowest} to {highest}" if lowest < highest else f"{lowest}"
    interval = difference["intervals"][PERCENTILE]
    apart = ", and no patient is called otherwise"
    if difference["estimate"] != 0 or not interval["degenerate"]:
        low, high = (number(100 * interval[end], 1) for end in ("low", "high"))
        apart = (
            f", a difference of {number(100 * difference['estimate'], 1)} percentage points "
            f"({level} paired interval {low} to {high}). To call the same share positive, the "
            f"final model's threshold would be {number(shift['same_share_threshold'])}"
        )
    return (
        f"The Youden threshold {number(shift['threshold'])} was found on the fold models and is "
        f"used with the final model. Of the same {n} test patients the {len(folds)} fold models "
        f"call {between} positive ({percent(sum(folds) / len(folds) / n)} on average), the final "
        f"model {shift['model']} ({percent(shift['model'] / n)}){apart}. No outcome is needed to "
        "see this, and none was used (test/folds.parquet, test/metrics.json)."
    )


def _value(estimate: Mapping[str, Any], method: str, digits: int) -> Value:
    interval = estimate["intervals"][method]
    return Value(
        number(estimate["estimate"], digits),
        limits(interval, digits),
        "" if estimate["n"] is None else f"n = {estimate['n']}",
        estimate["unreliable"],
    )


def _record(estimate: Mapping[str, Any], method: str, origin: str) -> dict[str, Any]:
    its = estimate["intervals"][method]
    return {
        "estimate": estimate["estimate"],
        "method": method,
        "low": its["low"],
        "high": its["high"],
        "n": estimate["n"],
        "origin": origin,
        "unreliable": estimate["unreliable"],
    }
