"""The report on nested cross-validation: what every patient was predicted, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.judge.answer import SPACE, limits, maps_of, number, percent, plain
from analysis.judge.nested import KIND, RESULT, TABLE
from analysis.report.page import environment
from analysis.statistics.bootstrap import LOGIT_DELONG
from spaces.parameters import NAMES
from spaces.run_files import read_json, write_text
from spaces.study import Study

TEMPLATE, PAGE = "nested.html", "nested.html"


def write_nested(root: Path, study: Study) -> Path:
    """Write nested.html beside the runs of the outer folds; return its path."""
    content = read_json(root / RESULT, KIND)
    made = environment()
    made.filters |= {"plain": plain}
    page = made.get_template(TEMPLATE).render(
        study=study,
        result=content,
        maps=maps_of(content["inputs"]),
        answer=nested_answer(content),
        parameters=NAMES,
        table=TABLE,
    )
    write_text(root / PAGE, page)
    return root / PAGE


def nested_answer(content: dict[str, Any]) -> str:
    """Return what nested.json says in one sentence."""
    mean, pooled = content["mean_auc"], content["pooled_auc"]
    level = f"{100 * content['confidence']:g}{SPACE}%"
    accuracy, delong = content["accuracy"], pooled["intervals"][LOGIT_DELONG]
    return (
        f"Each of {content['n']} patients ({content['positives']} positive) was predicted by a "
        f"model whose whole search had never seen them: {plain(content['target'])} from "
        f"{maps_of(content['inputs'])} with a mean AUC of {number(mean['estimate'])} over "
        f"{len(content['outer_folds'])} outer folds ({_span(mean, level, 'corrected t')}); pooled, "
        f"{number(pooled['estimate'])} ({_span(delong, level, 'logit-DeLong')}). At a probability "
        f"of .5, {accuracy['right']} of {content['n']} were right "
        f"({percent(accuracy['estimate'])}; the commoner class is "
        f"{percent(content['no_information_rate'])})."
    )


def _span(interval: Mapping[str, Any], level: str, method: str) -> str:
    if interval["low"] is None or interval["degenerate"]:
        return f"no usable {level} interval"
    return f"{level} interval {limits(interval)}, {method}"
