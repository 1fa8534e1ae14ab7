"""A run's frozen model on another cohort: what is fixed before, and what is measured after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.judge.characteristics import EXTERNAL, compare_sets
from analysis.judge.freeze import check_finite, write_predictions
from analysis.judge.measure import Fixed, measure
from analysis.judge.scrutiny import scrutinise
from cohort.patients import Patients
from cohort.table import Cohort
from spaces.errors import RefusedError
from spaces.judged_files import JudgedFiles
from spaces.run_files import RunFiles, read_json, sha256_of, write_json
from spaces.study import Study

if TYPE_CHECKING:
    from trainable.model import Prediction

KIND = "external-frozen"


def freeze_external(
    run: RunFiles, files: JudgedFiles, cohort: Cohort, images: Mapping[str, Sequence[Path]]
) -> dict[str, Any]:
    """Write the predictions of another cohort and frozen.json; return the latter's content.

    What is there already and still belongs to the same model and patients is kept.

    Args:
        run: whose frozen files were checked.
        files: of the judgement on that cohort.
        cohort: the other one.
        images: its patients' polar maps by input, in the order of ``cohort.split.test``.

    Returns:
        ``files`` (sha256 by name), ``run_frozen_sha256``, ``table_sha256``, ``images_sha256``,
        ``key_fingerprint``, ``patients``, and ``unfamiliar``: how many of them have maps unlike
        those of development (null for a model without that measure).

    Raises:
        RefusedError: the folder holds the judgement on another cohort, or a prediction is not
            finite.
    """
    sources = {
        "run_frozen_sha256": sha256_of(run.frozen),
        "table_sha256": cohort.table_sha256,
        "images_sha256": cohort.images_sha256,
        "key_fingerprint": cohort.split.key_fingerprint,
    }
    before = read_json(files.frozen, KIND) if files.frozen.exists() else None
    if before is not None and before["key_fingerprint"] != cohort.split.key_fingerprint:
        raise RefusedError(
            str(files.folder), "holds results of another cohort of this name", "Rename the table"
        )
    if before is not None and _is_kept(files, before, sources):
        return before
    prediction = write_predictions(run, files, cohort.split.test, images)
    check_finite(run, files)
    content = sources | {
        "files": {files.predictions.name: sha256_of(files.predictions)},
        "patients": len(cohort.split.test),
        "unfamiliar": _count_unfamiliar(run, prediction),
    }
    write_json(files.frozen, KIND, content)
    return content


def measure_external(
    study: Study, fixed: Fixed, own: Cohort, outcomes: Patients, files: JudgedFiles
) -> dict[str, Any]:
    """Return what the frozen model is worth on the opened patients of another cohort.

    Args:
        study: the study as run.
        fixed: what was frozen, with predictions of these patients.
        own: the run's cohort; its development patients are compared with the others.
        outcomes: the other cohort's patients.
        files: of this judgement.
    """
    content, resamples = measure(study, fixed, outcomes, files)
    return {
        **content,
        **scrutinise(study, fixed, outcomes, resamples),
        "patients": compare_sets(study, own.development, outcomes, EXTERNAL),
    }


def read_external_judgements(run: RunFiles) -> list[dict[str, Any]]:
    """Return the metrics of every other cohort that a run's model was judged on, by name."""
    return [read_json(path, "metrics") for path in sorted(run.external.glob("*/metrics.json"))]


def _is_kept(
    files: JudgedFiles, before: Mapping[str, Any], sources: Mapping[str, str | None]
) -> bool:
    if any(before[name] != digest for name, digest in sources.items()):
        return False
    path = files.predictions
    return path.is_file() and sha256_of(path) == before["files"][path.name]


def _count_unfamiliar(run: RunFiles, prediction: Prediction) -> int | None:
    from trainable.familiarity import Familiarity

    known = Familiarity.load(run.model)
    return None if known is None else int((known.distance(prediction.features) > 1).sum())
