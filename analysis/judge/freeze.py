"""Everything that is fixed before the sealed outcomes are opened, and its list of digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.choose.choice import BEST, why_not_trained
from analysis.choose.export import advise_another
from analysis.judge.attention import attend
from analysis.judge.baselines import fit_baselines
from analysis.judge.calibration import describe_shift
from analysis.judge.measure import Fixed
from analysis.judge.optimism import BOOTSTRAPS, corrected_score, read_scores
from analysis.judge.other_models import FOLDS, predict_others, read_others, results_of
from analysis.judge.pointing import play
from analysis.judge.simple_predictors import SIMPLE, fit_simple_predictors
from analysis.statistics.bootstrap import auc_of
from analysis.statistics.metrics import HALF, YOUDEN, log_odds_of, probability_of, youden_threshold
from cohort.segments import segment_columns
from cohort.table import Cohort
from spaces.errors import InputError, RefusedError
from spaces.judged_files import JudgedFiles
from spaces.run_files import (
    RunFiles,
    check_format,
    read_json,
    read_out_of_fold,
    replacing,
    sha256_of,
    write_json,
)
from spaces.study import Study
from spaces.trial_log import WINDOW, read_trials

if TYPE_CHECKING:
    from trainable.model import Prediction

SEGMENT_COLUMNS = segment_columns("segment")
BASELINES = "baselines.json"


def freeze(
    run: RunFiles, study: Study, cohort: Cohort, images: Mapping[str, Sequence[Path]]
) -> dict[str, Any]:
    """Write baselines, thresholds, test predictions and frozen.json; return the latter's content.

    What is there already and still belongs to the same model is kept, so that freezing again
    changes no byte. No outcome of a test patient is within reach here.

    Args:
        run: the run directory, with best.json and model/.
        study: the study as run.
        cohort: its development patients and split.
        images: the test patients' polar maps by input, in the order of ``cohort.split.test``.

    Returns:
        ``files`` (sha256 by path in the run), ``thresholds``, ``threshold_shift``, ``development``,
        ``evaluation`` (its settings), ``test_patients``.

    Raises:
        InputError: nothing was selected or retrained yet.
        RefusedError: a test prediction is not finite.
    """
    best = read_json(run.best, "best")
    if not (run.model / "model.json").exists():
        raise InputError(str(run.model / "model.json"), "there is no model", "Retrain first")
    sources = _sources(run, best)
    content = _kept(run, sources)
    if content is None:
        content = _freeze_anew(run, study, cohort, images, sources)
    if study.evaluation.attention and why_not_trained(best) is None:
        log_odds = log_odds_of(read_predictions(run.predictions)[0])
        attend(run, cohort.development.images, images, log_odds, study.seed)
        play(run, study, cohort)
    return content


def _freeze_anew(
    run: RunFiles,
    study: Study,
    cohort: Cohort,
    images: Mapping[str, Sequence[Path]],
    sources: dict[str, str],
) -> dict[str, Any]:
    best = read_json(run.best, "best")
    development = cohort.development
    baselines = fit_baselines(
        development.baseline_segments, study.cohort.inputs, development.target, cohort.split.folds
    )
    write_json(run.test / BASELINES, "baselines", baselines)
    simple = fit_simple_predictors(study, development, cohort.split.folds)
    write_json(run.test / SIMPLE, "simple-predictors", simple)
    if not _are_predicted(run, sources):
        write_predictions(run, run.judged, cohort.split.test, images)
    check_finite(run, run.judged)
    logits = read_out_of_fold(run.out_of_fold_of(best["trial"]), best["oof_sha256"])
    chosen = logits[best["epochs"] - 1]
    described = _describe_development(run, study, cohort, best, chosen)
    threshold = described.pop(YOUDEN)
    others = predict_others(run, study, cohort.split.test, images)
    shift = describe_shift(
        read_others(run.test / FOLDS),
        log_odds_of(read_predictions(run.predictions)[0]),
        threshold,
        study.evaluation,
        generator=np.random.default_rng(study.seed),
    )
    results = (run.test / BASELINES, run.test / SIMPLE, run.predictions, *others)
    content = {
        "files": sources | {_name(run, path): sha256_of(path) for path in results},
        "thresholds": {HALF: 0.5, YOUDEN: threshold},
        "threshold_shift": shift,
        "development": described,
        "evaluation": {"seed": study.seed, **study.evaluation.model_dump()},
        "test_patients": len(cohort.split.test),
    }
    write_json(run.frozen, "frozen", content)
    return content


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the frozen test logits (n, 2) and segment values (n, 17) or None.

    Raises:
        RefusedError: another version wrote the file.
    """
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    check_format(path, metadata.get(b"format", b"").decode(), "predictions")
    frame = table.to_pandas()
    logits = frame[["logit_negative", "logit_positive"]].to_numpy(dtype=np.float32)
    if SEGMENT_COLUMNS[0] not in frame:
        return logits, None
    return logits, frame[SEGMENT_COLUMNS].to_numpy(dtype=np.float32)


def _sources(run: RunFiles, best: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the choice, its out-of-fold logits and every model file.

    best.json stands for best.yaml, which also says how many slots were free.
    """
    models = sorted(path for path in run.model.rglob("*") if path.is_file())
    paths = [run.best, run.out_of_fold_of(best["trial"]), *models]
    return {_name(run, path): sha256_of(path) for path in paths}


def _name(run: RunFiles, path: Path) -> str:
    return path.relative_to(run.root).as_posix()


def _kept(run: RunFiles, sources: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what was frozen for these sources before, if not a byte of it has changed.

    Fitting anew, with another library or on another processor, could change a last bit; and what is
    judged under other digests counts as another opening.
    """
    if not run.frozen.exists():
        return None
    content = read_json(run.frozen, "frozen")
    files = content["files"]
    frozen = [run.test / BASELINES, run.test / SIMPLE, run.predictions, *results_of(run)]
    results = {_name(run, path): path for path in frozen}
    if files.keys() != {*sources, *results} or any(files[n] != d for n, d in sources.items()):
        return None
    intact = all(path.is_file() and sha256_of(path) == files[n] for n, path in results.items())
    return content if intact else None


def _are_predicted(run: RunFiles, sources: Mapping[str, str]) -> bool:
    """Whether the predictions on disk are those that these sources were frozen with."""
    if not (run.frozen.exists() and run.predictions.exists()):
        return False
    files = read_json(run.frozen, "frozen")["files"]
    now = {**sources, _name(run, run.predictions): sha256_of(run.predictions)}
    return all(files.get(name) == digest for name, digest in now.items())


def write_predictions(
    run: RunFiles, files: JudgedFiles, patients: Sequence[str], images: Mapping[str, Sequence[Path]]
) -> Prediction:
    """Write the model's predictions; patients appear under their keyed hashes only."""
    from trainable.model import load_model

    prediction = load_model(run.model).predict(images)
    columns: dict[str, Any] = {
        "patient": list(patients),
        "logit_negative": prediction.logits[:, 0],
        "logit_positive": prediction.logits[:, 1],
        "probability": probability_of(log_odds_of(prediction.logits)),
    }
    if prediction.segments is not None:
        columns |= dict(zip(SEGMENT_COLUMNS, prediction.segments.T, strict=True))
    table = pa.table(columns).replace_schema_metadata({"format": "polartune/predictions/1"})
    with replacing(files.predictions) as partial:
        pq.write_table(table, partial)
    return prediction


def check_finite(run: RunFiles, files: JudgedFiles) -> None:
    """Refuse predictions that nothing can be measured on, while the outcomes are still sealed."""
    logits, segments = read_predictions(files.predictions)
    outputs = logits if segments is None else np.concatenate([logits, segments], axis=1)
    broken = int((~np.isfinite(outputs)).any(axis=1).sum())
    if broken:
        raise RefusedError(
            str(files.predictions),
            f"{broken} of {len(outputs)} test predictions are not finite: the model diverged",
            advise_another(run),
        )


def read_frozen(run: RunFiles) -> dict[str, Any]:
    """Return what was frozen before the run's own test set was opened, every byte checked.

    Raises:
        InputError: the run was not judged on its test set yet.
        RefusedError: a file was changed since.
    """
    if not run.metrics.exists():
        raise InputError(str(run.root), "was not judged on its own test set yet", "Evaluate it")
    content = read_json(run.frozen, "frozen")
    digests = content["files"] | {
        _name(run, run.frozen): read_json(run.metrics, "metrics")["frozen_sha256"]
    }
    for name, digest in digests.items():
        path = run.root / name
        if not path.is_file() or sha256_of(path) != digest:
            raise RefusedError(
                str(path),
                "is not the file that was frozen before the test set was opened",
                "Restore it, or evaluate the run on its own test set again",
            )
    return content


def read_fixed(run: RunFiles, files: JudgedFiles, frozen: Mapping[str, Any]) -> Fixed:
    """Return what a judgement is about: the run's choice and regressions, and its predictions.

    Args:
        run: whose files were frozen.
        files: of the judgement.
        frozen: of the run's frozen.json.
    """
    logits, segments = read_predictions(files.predictions)
    return Fixed(
        thresholds=frozen["thresholds"],
        baselines=read_json(run.test / BASELINES, "baselines"),
        simple=read_json(run.test / SIMPLE, "simple-predictors"),
        best=read_json(run.best, "best"),
        logits=logits,
        segments=segments,
    )


def _describe_development(
    run: RunFiles, study: Study, cohort: Cohort, best: Mapping[str, Any], logits: np.ndarray
) -> dict[str, Any]:
    """Return the cross-validated score, its bias-corrected value and the Youden threshold.

    The correction is that of taking the highest score; any other choice has none (null).
    """
    target, folds = cohort.development.target, cohort.split.folds
    known = np.isfinite(target)
    positive, log_odds = target[known] == 1, log_odds_of(logits)[known]
    is_maximum = not study.is_fixed and best["primary"] == BEST
    corrected = float("nan")
    if is_maximum:
        corrected = corrected_score(
            read_scores(run, read_trials(run.trials), known),
            positive,
            folds[known],
            window=min(WINDOW, study.training.epochs),
            generator=np.random.default_rng(study.seed),
        )
    return {
        "n": len(positive),
        "positives": int(positive.sum()),
        "missing": int((~known).sum()),
        "score": best["score"],
        "score_sd": best["score_sd"],
        "bias_corrected_score": corrected if np.isfinite(corrected) else None,
        "bootstraps": BOOTSTRAPS if is_maximum else 0,
        "pooled_auc": auc_of(positive, log_odds),
        YOUDEN: youden_threshold(positive, probability_of(log_odds)),
    }
