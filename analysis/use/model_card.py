"""The model card: what a trained model is for, of whom it learnt, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.judge.answer import (
    answer,
    headline,
    limits,
    maps_of,
    number,
    percent,
    plain,
    why_exploratory,
)
from analysis.judge.calls import METRIC_LABELS, call_rows, name_threshold
from analysis.judge.external import read_external_judgements
from analysis.judge.judgement import Row, auc_rows
from analysis.statistics.bootstrap import CLOPPER_PEARSON, LOGIT_DELONG, PERCENTILE
from analysis.statistics.metrics import HALF, YOUDEN
from cohort.segments import segment_columns
from spaces.run_files import RunFiles, read_json
from spaces.study import read_study
from trainable.model import gives_probability, gives_segments

CARD = "MODEL_CARD.md"
_TEMPLATE = "model_card.md"


def describe_model(run: RunFiles, onnx_difference: float | None = None) -> str:
    """Return the card of a run's model as Markdown, after Mitchell et al. 2019.

    Their order (doi:10.1145/3287560.3287596): details, use, factors, metrics, data, analyses,
    caveats. No patient, id or hash of one stands in it.

    Args:
        run: with a trained model.
        onnx_difference: between the ONNX file beside the card and the network, if there is one.
    """
    study = read_study(run.study)
    model = read_json(run.model / "model.json", "model")
    metrics = _read(run.metrics, "metrics")
    environment = _read(run.environment, "environment")
    return (
        _templates()
        .get_template(_TEMPLATE)
        .render(
            title=headline(study.cohort),
            study=study,
            model=model,
            target=plain(study.cohort.target),
            maps=maps_of(study.cohort.inputs),
            says=_said(model),
            untrained=_untrained(model, study.cohort.segments is not None),
            best=_read(run.best, "best") if gives_probability(model) else None,
            metrics=metrics,
            answer=answer(metrics) if metrics else None,
            exploratory=why_exploratory(metrics) if metrics else "",
            rows=_rows(metrics) if metrics else [],
            packages=environment["sessions"][-1]["packages"] if environment else {},
            onnx_difference=onnx_difference,
            external=[answer(its) for its in read_external_judgements(run)],
        )
    )


def _said(model: Mapping[str, Any]) -> list[str]:
    """Return what the model says of a patient; nothing that it was not trained to say."""
    said = []
    if gives_probability(model):
        said.append(f'the probability of "{plain(model["target"])}"')
    if gives_segments(model):
        first, *_, last = segment_columns(model["segments_prefix"])
        said.append(f"the 17 segment values `{first}` to `{last}` in the unit of the table")
    return said


def _untrained(model: Mapping[str, Any], has_segments: bool) -> list[str]:
    """Return which of the outputs that one may look for are missing, and why."""
    missing = []
    if not gives_probability(model):
        missing.append(
            "No probability: it was trained with lambda = 0, so its logits learnt nothing."
        )
    if has_segments and not gives_segments(model):
        missing.append(
            "No segment values: it was trained with lambda = 1, so these outputs learnt nothing."
        )
    return missing


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, str, int]]:
    """Return (what, estimate, interval, n) of AUC and calls of the model and of the regressions."""
    rows = [_shown(f"AUC, {row.label}", row, LOGIT_DELONG) for row in auc_rows(metrics, None)]
    confidence = metrics["confidence"]
    if "skipped" in metrics["model"]:
        return rows
    for key in (HALF, YOUDEN):
        threshold = metrics["model"]["thresholds"][key]["threshold"]
        for row in call_rows(metrics["model"], key, confidence):
            method = CLOPPER_PEARSON if row.count is not None else PERCENTILE
            label = f"{row.label} at {name_threshold(key, threshold)}"
            rows.append(_shown(label, row, method))
    assert len(rows) >= 2 * len(METRIC_LABELS)
    return rows


def _shown(label: str, row: Row, method: str) -> tuple[str, str, str, int]:
    doubt = " (unreliable)" if row.unreliable else ""
    return label, number(row.estimate), limits(row.intervals[method]) + doubt, row.n


def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701  Markdown, of our own words and numbers
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"number": number, "percent": percent}
    return made


def _read(path: Path, kind: str) -> dict[str, Any] | None:
    return read_json(path, kind) if path.exists() else None
