"""The result in words a cardiologist reads first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.bootstrap import LOGIT_DELONG, PERCENTILE

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number as printed: fixed digits, a true minus sign, ``n/a`` for None.

    >>> number(0.876), number(None)
    ('0.88', 'n/a')
    """
    if value is None:
        return "n/a"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def limits(interval: Mapping[str, Any], digits: int = 2) -> str:
    """Return an interval as printed: ``0.81 to 0.93``, or why there is none."""
    if interval["low"] is None:
        return "undefined"
    if interval["degenerate"]:
        return "degenerate"
    return f"{number(interval['low'], digits)} to {number(interval['high'], digits)}"


def answer(metrics: Mapping[str, Any]) -> str:
    """Return the test AUC with interval, n and positives, beside the segments' regression.

    Args:
        metrics: the content of metrics.json.
    """
    auc, exploratory = metrics["model"]["auc"], why_exploratory(metrics)
    target, maps = metrics["target"].replace("_", " "), " + ".join(metrics["inputs"])
    start, sealed = "", " that no earlier step had seen"
    if exploratory:
        start, sealed = f"Exploratory ({exploratory}): ", ""
    sentence = (
        f"{start}On {metrics['n']} test patients ({metrics['positives']} positive){sealed}, "
        f"the model predicted {target} from {maps} maps with an AUC of {number(auc['estimate'])} "
        f"({_said(auc['intervals'][LOGIT_DELONG], metrics, ', logit-DeLong')})"
    )
    if "skipped" in metrics["baselines"]:
        return sentence + "; there is no regression on segments to compare it with."
    name = metrics["primary_comparison"]
    baseline, difference = metrics["baselines"][name]["auc"], metrics["differences"][name]
    return sentence + (
        f"; logistic regression on the segment values reached {number(baseline['estimate'])} "
        f"({_said(baseline['intervals'][LOGIT_DELONG], metrics)}), a difference of "
        f"{number(difference['estimate'])} "
        f"({_said(difference['intervals'][PERCENTILE], metrics, ', bootstrap')})."
    )


def why_exploratory(metrics: Mapping[str, Any]) -> str:
    """Return which openings came before this result's, as a phrase; empty if none did."""
    if not metrics["exploratory"]:
        return ""
    phrases = []
    if metrics["openings"] > 1:
        phrases.append(f"opening {metrics['openings']} of this test set")
    elsewhere = metrics["openings_of_other_splits"]
    if elsewhere:
        times = "once" if elsewhere == 1 else f"{elsewhere} times"
        phrases.append(f"outcomes opened {times} under other splits")
    return "; ".join(phrases)


def _said(interval: Mapping[str, Any], metrics: Mapping[str, Any], method: str = "") -> str:
    level = f"{100 * metrics['confidence']:g}{SPACE}% interval"
    if interval["low"] is None or interval["degenerate"]:
        return f"no usable {level}"
    return f"{level} {limits(interval)}{method}"


def meaning(metrics: Mapping[str, Any]) -> str:
    """Return what the intervals do and do not allow one to say."""
    interval = metrics["model"]["auc"]["intervals"][LOGIT_DELONG]
    if interval["low"] is None or interval["degenerate"]:
        said = "The AUC has no usable interval: separation is complete, or the patients too few."
    elif interval["low"] > 0.5:
        said = "The model ranks patients better than chance."
    elif interval["high"] < 0.5:
        said = "The model ranks patients worse than chance: suspect the labels."
    else:
        said = "Chance (AUC 0.5) is not excluded."
    if not metrics["differences"]:
        return said
    difference = metrics["differences"][metrics["primary_comparison"]]["intervals"][PERCENTILE]
    if difference["low"] is None or difference["degenerate"]:
        return f"{said} The difference to logistic regression has no usable interval."
    if difference["low"] > 0:
        return f"{said} The model does better than logistic regression on the segment values."
    if difference["high"] < 0:
        return f"{said} Logistic regression on the segment values does better: prefer it."
    return (
        f"{said} These patients do not show that it does better, or worse, than logistic "
        "regression on the segment values."
    )
