"""The one look at the test set: frozen before, opened once, measured with intervals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from finished_run import EPOCHS, Run, add_model, fake_loading
from sklearn.metrics import brier_score_loss, roc_auc_score

import analysis.judge.evaluate as stage
from analysis.choose.select import select
from analysis.judge.answer import answer, why_exploratory
from analysis.judge.baselines import concatenate_segments, predict_baseline
from analysis.judge.evaluate import evaluate
from analysis.judge.freeze import freeze, read_predictions
from analysis.statistics.metrics import log_odds_of, probability_of
from cohort.sealed import open_outcomes, openings, sealed_images
from cohort.segments import segment_columns
from cohort.table import read_cohort
from spaces.errors import InputError, RefusedError
from spaces.run_files import read_json, read_out_of_fold, sha256_of
from spaces.study import read_study


@pytest.fixture
def loading(judged: Run, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Counts the predictions that are made from now on."""
    return fake_loading(judged, monkeypatch)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def count_openings(run: Run) -> int:
    return len(openings(run.cohort, run.study, run.files.root))


def test_the_test_auc_is_that_of_the_frozen_predictions_and_the_sealed_outcomes(
    judged: Run,
) -> None:
    metrics = read_json(judged.files.metrics, "metrics")
    logits, _ = read_predictions(judged.files.predictions)
    outcomes = open_outcomes(
        judged.cohort, judged.study, judged.files.root, run="test", frozen_sha256=""
    )
    known = np.isfinite(outcomes.target)
    expected = roc_auc_score(outcomes.target[known], log_odds_of(logits)[known])
    assert metrics["model"]["auc"]["estimate"] == pytest.approx(expected)
    assert metrics["n"] == known.sum()
    assert metrics["positives"] == outcomes.target[known].sum()
    assert metrics["missing"] == (~known).sum()
    assert metrics["model"]["auc"]["intervals"].keys() == {"percentile", "bca", "logit_delong"}


def test_every_digest_in_the_frozen_list_is_that_of_the_file(judged: Run) -> None:
    files = read_json(judged.files.frozen, "frozen")["files"]
    assert {name: sha256_of(judged.files.root / name) for name in files} == files
    best = read_json(judged.files.best, "best")
    assert set(files) == {
        "best.json",
        f"oof/{best['trial']}.parquet",
        "model/model.safetensors",
        "model/model.json",
        *(f"model/folds/{number}.safetensors" for number in range(5)),
        "model/seeds/1.safetensors",
        "model/seeds/2.safetensors",
        "model/out_of_fold_segments.parquet",
        "test/baselines.json",
        "test/folds.parquet",
        "test/predictions.parquet",
        "test/seeds.parquet",
        "test/simple_predictors.json",
    }


def test_the_opening_names_what_was_frozen_and_comes_before_the_outcomes(
    run: Run, model: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def watched(*arguments: object, frozen_sha256: str, **more: object) -> object:
        seen["files"] = sorted(path.name for path in run.files.test.iterdir())
        seen["frozen"] = sha256_of(run.files.frozen)
        seen["given"] = frozen_sha256
        return open_outcomes(*arguments, frozen_sha256=frozen_sha256, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "open_outcomes", watched)
    select(run.files)
    evaluate(run.files, run.cohort)
    assert seen["files"] == [
        "baselines.json",
        "folds.parquet",
        "frozen.json",
        "predictions.parquet",
        "seeds.parquet",
        "simple_predictors.json",
    ]
    assert seen["given"] == seen["frozen"]
    assert openings(run.cohort, run.study, run.files.root)[0].frozen_sha256 == seen["frozen"]


def test_evaluating_again_opens_nothing_and_changes_no_byte(
    judged: Run, loading: SimpleNamespace
) -> None:
    before = contents(judged.files.root)
    again = evaluate(judged.files, judged.cohort)
    assert contents(judged.files.root) == before
    assert count_openings(judged) == 1
    assert loading.predicted == 0
    assert not again.content["exploratory"]


def test_cut_off_between_opening_and_metrics_it_is_still_one_opening(
    judged: Run, loading: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged.files.metrics.unlink()

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("analysis.judge.evaluate._measure", cut)
        with pytest.raises(KeyboardInterrupt):
            evaluate(judged.files, judged.cohort)
    again = evaluate(judged.files, judged.cohort)
    assert (again.content["openings"], again.content["exploratory"]) == (1, False)


def test_a_regression_that_would_be_fitted_differently_today_opens_nothing(
    judged: Run, loading: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another library or processor may move a last bit; what was frozen stays as it was."""
    monkeypatch.setattr("analysis.judge.freeze.fit_baselines", lambda *_: {"skipped": "moved"})
    evaluate(judged.files, judged.cohort)
    assert count_openings(judged) == 1


def test_another_model_is_another_opening_and_the_result_exploratory(
    judged: Run, loading: SimpleNamespace
) -> None:
    (judged.files.model / "model.safetensors").write_bytes(b"other weights")
    again = evaluate(judged.files, judged.cohort)
    assert (again.content["openings"], again.content["exploratory"]) == (2, True)
    assert loading.predicted == 1
    assert again.sentence.startswith("Exploratory (opening 2 of this test set): On ")
    assert "had seen" not in again.sentence


def test_another_split_of_a_cohort_whose_outcomes_were_opened_is_exploratory(
    judged: Run, loading: SimpleNamespace
) -> None:
    first = read_json(judged.files.metrics, "metrics")
    assert (first["openings_of_other_splits"], first["exploratory"]) == (0, False)
    shutil.rmtree(judged.files.test)
    judged.edit_study("folds: 5,", "folds: 5, seed: 99,")
    other = read_cohort(judged.study, judged.files.root, verify_images=False)
    again = evaluate(judged.files, other).content
    assert (again["openings"], again["openings_of_other_splits"]) == (1, 1)
    assert again["exploratory"]
    assert answer(again).startswith("Exploratory (outcomes opened once under other splits): On ")


def test_both_kinds_of_earlier_openings_are_named() -> None:
    counts = {"exploratory": True, "openings": 3, "openings_of_other_splits": 2}
    said = "opening 3 of this test set; outcomes opened 2 times under other splits"
    assert why_exploratory(counts) == said


def test_predictions_that_are_no_numbers_are_refused_before_the_opening(
    run: Run, model: SimpleNamespace
) -> None:
    model.scale = np.nan
    select(run.files)
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"40 of 40 test predictions .*polartune run .*best"):
            evaluate(run.files, run.cohort)
    assert count_openings(run) == 0
    assert not run.files.frozen.exists()


def test_saturated_predictions_are_ranked_by_their_logits(run: Run, model: SimpleNamespace) -> None:
    select(run.files)
    expected = evaluate(run.files, run.cohort).content
    curve = pd.read_csv(run.files.test / "roc.csv")
    shutil.rmtree(run.files.test)
    model.scale = 256.0
    found = evaluate(run.files, run.cohort).content
    assert (probability_of(log_odds_of(read_predictions(run.files.predictions)[0])) == 1).sum() > 2
    assert found["model"]["auc"] == expected["model"]["auc"]
    assert found["differences"] == expected["differences"]
    assert found["model"]["brier"]["estimate"] > expected["model"]["brier"]["estimate"]
    pd.testing.assert_frame_equal(pd.read_csv(run.files.test / "roc.csv"), curve)


def test_the_regressions_are_judged_by_their_probabilities(judged: Run) -> None:
    metrics = read_json(judged.files.metrics, "metrics")
    frozen = read_json(judged.files.test / "baselines.json", "baselines")
    outcomes = open_outcomes(
        judged.cohort, judged.study, judged.files.root, run="test", frozen_sha256=""
    )
    known = np.isfinite(outcomes.target)
    features = concatenate_segments(outcomes.baseline_segments, ["reserve"])[known]
    for name, description in frozen["models"].items():
        probability = probability_of(predict_baseline(description, features))
        expected = brier_score_loss(outcomes.target[known], probability)
        assert metrics["baselines"][name]["brier"]["estimate"] == pytest.approx(expected)


def test_altered_predictions_are_made_again(judged: Run, loading: SimpleNamespace) -> None:
    before = judged.files.predictions.read_bytes()
    table = pq.read_table(judged.files.predictions)
    pq.write_table(table.slice(0, 3), judged.files.predictions)
    evaluate(judged.files, judged.cohort)
    assert judged.files.predictions.read_bytes() == before
    assert count_openings(judged) == 1


def test_noise_in_the_sealed_values_changes_nothing_that_is_frozen(
    run: Run, model: SimpleNamespace
) -> None:
    select(run.files)
    freeze(run.files, run.study, run.cohort, sealed_images(run.cohort, run.study, run.files.root))
    before = contents(run.files.root)
    frame = pd.read_csv(run.csv)
    development = set(run.cohort.development.ids)
    sealed = ~frame["patient_id"].isin(development)
    generator = np.random.default_rng(0)
    frame.loc[sealed, "impaired"] = generator.integers(0, 2, sealed.sum())
    frame.loc[sealed, segment_columns("mfr")] = generator.random((sealed.sum(), 17))
    frame.to_csv(run.csv, index=False)
    noisy = read_cohort(run.study, run.files.root, split=run.cohort.split, verify_images=False)
    select(run.files)
    freeze(run.files, run.study, noisy, sealed_images(noisy, run.study, run.files.root))
    assert contents(run.files.root) == before


def test_predictions_hold_keyed_hashes_and_no_outcome(judged: Run) -> None:
    frame = pq.read_table(judged.files.predictions).to_pandas()
    assert list(frame["patient"]) == list(judged.cohort.split.test)
    assert "impaired" not in frame.columns
    everything = b"".join(contents(judged.files.root).values())
    assert b"secret" not in everything


def test_segments_are_judged_in_the_units_of_the_column(judged: Run) -> None:
    rows = read_json(judged.files.metrics, "metrics")["segments"]["mean_absolute_error"]
    assert len(rows) == 17
    # The fake model is off by .1 everywhere, and replaces what is missing by 2.5.
    assert rows[0]["estimate"] == pytest.approx(0.1, abs=1e-6)
    interval = rows[0]["intervals"]["percentile"]
    assert interval["low"] == pytest.approx(0.1, abs=1e-6)


def test_the_difference_to_the_baselines_is_paired(judged: Run) -> None:
    metrics = read_json(judged.files.metrics, "metrics")
    for name, difference in metrics["differences"].items():
        expected = (
            metrics["model"]["auc"]["estimate"] - metrics["baselines"][name]["auc"]["estimate"]
        )
        assert difference["estimate"] == pytest.approx(expected)
    assert metrics["primary_comparison"] in metrics["differences"]


def test_the_table_holds_every_number_with_n_interval_and_origin(judged: Run) -> None:
    frame = pd.read_csv(judged.files.metrics.with_suffix(".csv"))
    assert {"model", "logistic_l2", "logistic_unpenalised"} <= set(frame["classifier"])
    assert frame[["n", "origin", "method", "confidence"]].notna().all().all()
    metrics = read_json(judged.files.metrics, "metrics")
    row = frame.query("classifier == 'model' and metric == 'auc' and method == 'bca'").iloc[0]
    assert row["low"] == pytest.approx(metrics["model"]["auc"]["intervals"]["bca"]["low"])


def test_the_roc_curve_integrates_to_the_auc(judged: Run) -> None:
    frame = pd.read_csv(judged.files.test / "roc.csv")
    metrics = read_json(judged.files.metrics, "metrics")
    for name, curve in frame.groupby("classifier"):
        described = metrics["model"] if name == "model" else metrics["baselines"][name]
        area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        assert area == pytest.approx(described["auc"]["estimate"])


def test_the_development_set_is_described_at_the_end_of_the_best_window(judged: Run) -> None:
    development = read_json(judged.files.metrics, "metrics")["development"]
    best = read_json(judged.files.best, "best")
    assert best["epochs"] == EPOCHS - 1
    logits = read_out_of_fold(judged.files.out_of_fold_of(best["trial"]))[best["epochs"] - 1]
    target = judged.cohort.development.target
    known = np.isfinite(target)
    expected = roc_auc_score(target[known], log_odds_of(logits)[known])
    assert development["pooled_auc"] == pytest.approx(expected)
    assert development["n"] + development["missing"] == len(judged.cohort.development)


def test_the_corrected_score_is_below_the_winners(judged: Run) -> None:
    development = read_json(judged.files.metrics, "metrics")["development"]
    assert development["score"] - 0.1 < development["bias_corrected_score"] < development["score"]
    assert development["bootstraps"] == 200


def test_only_taking_the_highest_score_is_corrected(run: Run, model: SimpleNamespace) -> None:
    run.edit_study("bootstraps: 200", "bootstraps: 200, selection: one_se")
    select(run.files)
    development = evaluate(run.files, run.cohort).content["development"]
    assert (development["bias_corrected_score"], development["bootstraps"]) == (None, 0)


def test_a_fixed_study_has_nothing_to_correct(run: Run, model: SimpleNamespace) -> None:
    select(run.files)
    run.files.study.write_bytes(run.files.best_study.read_bytes())
    study = read_study(run.files.study)
    images = sealed_images(run.cohort, study, run.files.root)
    development = freeze(run.files, study, run.cohort, images)["development"]
    assert (development["bias_corrected_score"], development["bootstraps"]) == (None, 0)


def test_without_segments_the_baselines_are_skipped_with_a_reason(
    run_without_segments: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_without_segments
    add_model(run)
    fake_loading(run, monkeypatch)
    select(run.files)
    metrics = evaluate(run.files, run.cohort)
    assert "no 17 segment columns" in metrics.content["baselines"]["skipped"]
    assert metrics.content["segments"] == {"skipped": "the study regresses no segments"}
    assert metrics.sentence.endswith("there is no regression on segments to compare it with.")


def test_evaluating_before_selecting_names_the_missing_step(
    run: Run, model: SimpleNamespace
) -> None:
    with pytest.raises(InputError, match=r"best\.json.*Run the step that writes it"):
        evaluate(run.files, run.cohort)
    assert count_openings(run) == 0


def test_evaluating_without_a_model_opens_nothing(run: Run) -> None:
    select(run.files)
    with pytest.raises(InputError, match=r"model\.json.*Retrain first"):
        evaluate(run.files, run.cohort)
    assert count_openings(run) == 0


def test_importing_the_stage_imports_no_torch() -> None:
    code = (
        "import sys, analysis.judge.evaluate, analysis.report.page;"
        "print([m for m in ('torch', 'ray', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.strip()) == []
