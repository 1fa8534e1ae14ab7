"""The result in words a cardiologist reads first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.statistics.bootstrap import LOGIT_DELONG, PERCENTILE
from spaces.sections import CohortSection

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
TRAILING_MAP = re.compile(r"\s*\b(polar )?maps?$", re.IGNORECASE)


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


def percent(share: float) -> str:
    """Return a share in whole percent."""
    return f"{100 * share:.0f}{SPACE}%"


def say_p(p: float | None) -> str:
    """Return a p-value as printed.

    >>> say_p(0.66), say_p(0.0321), say_p(None)
    ('0.66', '0.032', '—')
    """
    if p is None:
        return "—"
    if p < 0.001:
        return f"<{NARROW_SPACE}0.001"
    return number(p, 2 if p >= 0.1 else 3)


def plain(name: str) -> str:
    """Return a column's name as words.

    >>> plain("impaired_any")
    'impaired any'
    """
    return " ".join(name.replace("_", " ").split())


def title(text: str) -> str:
    """Return the text with a capital first letter; the others stay, as in MFR."""
    return text[:1].upper() + text[1:]


def maps_of(inputs: Sequence[str]) -> str:
    """Return the inputs as a reader says them.

    >>> maps_of(["rest", "stress", "reserve"]), maps_of(["MFR_map"])
    ('rest, stress and reserve maps', 'MFR maps')
    """
    bare = (TRAILING_MAP.sub("", plain(name)) for name in inputs)
    names = [name for name in bare if name]
    if not names:
        return "polar maps"
    *others, last = names
    return f"{', '.join(others)} and {last} maps" if others else f"{last} maps"


def headline(cohort: CohortSection) -> str:
    """Return what is told from what, as a title."""
    return title(f"{plain(cohort.target)} from {maps_of(cohort.inputs)}")


def question(cohort: CohortSection) -> str:
    """Return the study's question, and what its target means if the study file says so."""
    target = plain(cohort.target)
    asked = (
        f"How well does a network that sees {maps_of(cohort.inputs)} alone tell patients who are "
        f"positive for \N{LEFT DOUBLE QUOTATION MARK}{target}\N{RIGHT DOUBLE QUOTATION MARK} from "
        "those who are not?"
    )
    derived = cohort.derive.get(cohort.target)
    if derived is None:
        return asked
    where = "any of the 17 segments"
    if derived.segments != "any":
        where = f"any segment of the {derived.segments} territory"
    return f"{asked} Positive means: {derived.columns} below {derived.below:g} in {where}."


def answer(metrics: Mapping[str, Any]) -> str:
    """Return the AUC with interval, n and positives, beside the segments' regression.

    Of a model whose logits were not trained, that, and what the regression reached.

    Args:
        metrics: the content of metrics.json.
    """
    exploratory = why_exploratory(metrics)
    target, maps = plain(metrics["target"]), maps_of(metrics["inputs"])
    start, sealed = "", " that no earlier step had seen"
    if exploratory:
        start, sealed = f"Exploratory ({exploratory}): ", ""
    whom = "test patients"
    if "external" in metrics:
        whom, sealed = "patients", f" of the external cohort {metrics['external']}"
    sentence = f"{start}On {metrics['n']} {whom} ({metrics['positives']} positive){sealed}, "
    reason = metrics["model"].get("skipped")
    if reason:
        sentence += f"the model does not predict {target} from {maps} ({reason})"
    else:
        auc = metrics["model"]["auc"]
        sentence += (
            f"the model predicted {target} from {maps} with an AUC of {number(auc['estimate'])} "
            f"({_said(auc['intervals'][LOGIT_DELONG], metrics, ', logit-DeLong')})"
        )
    if "skipped" in metrics["baselines"]:
        return sentence + "; there is no regression on segments to compare it with."
    name = metrics["primary_comparison"]
    baseline = metrics["baselines"][name]["auc"]
    sentence += (
        f"; logistic regression on the segment values reached {number(baseline['estimate'])} "
        f"({_said(baseline['intervals'][LOGIT_DELONG], metrics)})"
    )
    if reason:
        return f"{sentence}."
    difference = metrics["differences"][name]
    return sentence + (
        ", a difference of "
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
