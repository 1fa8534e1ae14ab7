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
    auc = metrics["model"]["auc"]
    target, maps = metrics["target"].replace("_", " "), " + ".join(metrics["inputs"])
    sentence = (
        f"On {metrics['n']} test patients ({metrics['positives']} positive) that no earlier step "
        f"had seen, the model predicted {target} from {maps} maps with an AUC of "
        f"{number(auc['estimate'])} ({_said(auc['intervals'][LOGIT_DELONG], metrics)})"
    )
    if metrics["exploratory"]:
        sentence = f"Exploratory (opening {metrics['openings']} of this test set): {sentence}"
    if "skipped" in metrics["baselines"]:
        return sentence + "; there is no regression on segments to compare it with."
    name = metrics["primary_comparison"]
    baseline, difference = metrics["baselines"][name]["auc"], metrics["differences"][name]
    return sentence + (
        f"; logistic regression on the segment values reached {number(baseline['estimate'])} "
        f"({_said(baseline['intervals'][LOGIT_DELONG], metrics)}), a difference of "
        f"{number(difference['estimate'])} ({_said(difference['intervals'][PERCENTILE], metrics)})."
    )


def _said(interval: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    level = f"{100 * metrics['confidence']:g}{SPACE}% interval"
    if interval["low"] is None or interval["degenerate"]:
        return f"no usable {level}"
    return f"{level} {limits(interval)}"


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
