"""What to believe follows from the numbers, and never says more than they do."""

import copy
from typing import Any

import numpy as np
import pytest
from finished_run import Run

from analysis.judge.calls import describe_thresholds
from analysis.judge.judgement import OutOfFold, Row
from analysis.report.belief import weigh
from analysis.statistics.bootstrap import Interval
from analysis.statistics.curves import Calibration, Fitted
from analysis.statistics.folds import CORRECTED_T
from spaces.run_files import read_json

POOLED = OutOfFold(
    n=80,
    positives=40,
    auc=0.6,
    interval={"low": 0.5, "high": 0.7, "degenerate": False},
    thresholds={"half": 0.5, "youden": 0.6},
    counts={
        "half": {"tp": 30, "fp": 8, "tn": 32, "fn": 10},
        "youden": {"tp": 25, "fp": 5, "tn": 35, "fn": 15},
    },
)


@pytest.fixture
def metrics(evaluated: Run) -> dict[str, Any]:
    """Numbers of a judged run, to be changed at will."""
    return copy.deepcopy(read_json(evaluated.files.metrics, "metrics"))


def span(low: float | None, high: float | None, *, degenerate: bool = False) -> dict[str, Any]:
    return {"low": low, "high": high, "degenerate": degenerate}


@pytest.mark.parametrize(
    ("low", "high", "believed", "said"),
    [
        (0.01, 0.2, True, "does better than logistic regression on the segment values"),
        (-0.3, -0.01, False, "logistic regression on the segment values does better"),
        (-0.1, 0.1, False, "or equals it: the difference is"),
        (-0.1, 0.1, False, "do not show that it does better, or worse"),
        (None, None, False, "no usable interval"),
    ],
)
def test_the_comparison_follows_from_the_paired_interval(
    metrics: dict[str, Any], low: float | None, high: float | None, believed: bool, said: str
) -> None:
    primary = metrics["differences"][metrics["primary_comparison"]]
    primary["intervals"]["percentile"] = span(low, high)
    belief = weigh(metrics)
    assert any(said in text for text in (belief.yes if believed else belief.no))
    assert not any(said in text for text in (belief.no if believed else belief.yes))


@pytest.mark.parametrize(
    ("interval", "believed", "said"),
    [
        (span(0.6, 0.9), True, "better than chance: AUC"),
        (span(0.4, 0.7), False, "chance (0.50) is not excluded"),
        (span(0.1, 0.4), False, "That labels and maps belong together: the model ranks"),
        (span(1.0, 1.0, degenerate=True), False, "no usable interval"),
        (span(None, None), False, "no usable interval"),
    ],
)
def test_chance_is_judged_by_the_interval(
    metrics: dict[str, Any], interval: dict[str, Any], believed: bool, said: str
) -> None:
    metrics["model"]["auc"]["intervals"]["logit_delong"] = interval
    metrics["differences"] = {}
    belief = weigh(metrics)
    assert any(said in text for text in (belief.yes if believed else belief.no))
    assert any("better than chance: AUC" in text for text in belief.yes) == believed
    # Calls are no merit of a model that may be as good as chance.
    is_open = interval["low"] is None or interval["degenerate"] or believed
    assert any("it found" in text for text in belief.yes) == is_open


def test_every_number_of_the_model_comes_with_interval_and_n(metrics: dict[str, Any]) -> None:
    belief = weigh(metrics, POOLED)
    assert f"test n = {metrics['n']})." in belief.yes[0]
    found = next(text for text in belief.yes if "it found" in text)
    counts = metrics["model"]["thresholds"]["youden"]["counts"]
    assert f"{counts['tp']} of {counts['tp'] + counts['fn']} positive test patients (" in found
    assert f"{counts['tn']} of {counts['tn'] + counts['fp']} negative ones (" in found


def test_calls_on_one_side_separate_nobody(metrics: dict[str, Any]) -> None:
    metrics["model"]["thresholds"]["youden"]["counts"] = {"tp": 20, "fp": 20, "tn": 0, "fn": 0}
    belief = weigh(metrics)
    assert any("every test patient was called positive" in text for text in belief.no)
    assert not any("it found" in text for text in belief.yes)
    said = describe_thresholds(metrics, POOLED)[1]
    assert said.endswith(
        "on the test set, all 40 patients were called positive, so the threshold separates nobody "
        "there."
    )
    assert "out-of-fold, 25 of 40 positive patients were found and 35 of 40 negative ones" in said


@pytest.mark.parametrize(
    ("counts", "believed"),
    [
        ({"tp": 3, "fn": 61, "fp": 0, "tn": 29}, False),  # P = .32 with these margins
        ({"tp": 12, "fn": 52, "fp": 0, "tn": 29}, True),  # P = .008
    ],
)
def test_calls_that_chance_could_make_are_not_believed(
    metrics: dict[str, Any], counts: dict[str, int], believed: bool
) -> None:
    metrics["model"]["auc"]["intervals"]["logit_delong"] = span(0.6, 0.9)
    metrics["model"]["thresholds"]["youden"]["counts"] = counts
    belief = weigh(metrics)
    said = f"found {counts['tp']} of 64 positive test patients"
    assert any(said in text for text in (belief.yes if believed else belief.no))
    assert not any(said in text for text in (belief.no if believed else belief.yes))


def test_an_accuracy_no_better_than_the_commoner_class_is_worth_nothing(
    metrics: dict[str, Any],
) -> None:
    said = "right more often than a guess"
    metrics["no_information_rate"] = 0.51
    metrics["model"]["thresholds"]["half"]["counts"] = {"tp": 15, "fp": 4, "tn": 16, "fn": 5}
    assert not any(said in text for text in weigh(metrics).no)
    metrics["no_information_rate"] = 0.8
    assert any(said in text for text in weigh(metrics).no)


def test_development_that_disagrees_with_the_test_set_is_named(metrics: dict[str, Any]) -> None:
    name = metrics["primary_comparison"]
    metrics["model"]["auc"]["intervals"]["logit_delong"] = span(0.8, 0.9)
    metrics["differences"][name]["intervals"]["percentile"] = span(0.01, 0.2)
    before = Row(
        "logistic regression, L2", "out-of-fold", -0.1, {CORRECTED_T: span(-0.3, 0.1)}, 80, "x"
    )
    said = " ".join(weigh(metrics, POOLED, [before]).no)
    assert "out-of-fold it was 0.60 (0.50 to 0.70; development n = 80)" in said
    assert "out-of-fold the regression was ahead" in said
    metrics["model"]["auc"]["intervals"]["logit_delong"] = span(0.55, 0.9)
    metrics["differences"][name]["intervals"]["percentile"] = span(-0.01, 0.2)
    assert "out-of-fold" not in " ".join(weigh(metrics, POOLED, [before]).no)


@pytest.mark.parametrize(("low", "high", "said"), [(0.3, 0.8, "extreme"), (1.1, 2.0, "timid")])
def test_probabilities_are_believed_only_with_a_slope_of_one(
    metrics: dict[str, Any], low: float, high: float, said: str
) -> None:
    def calibration(limits: tuple[float, float]) -> Calibration:
        slope = Fitted(sum(limits) / 2, Interval("wald", *limits))
        return Calibration(None, slope, slope, 80)  # type: ignore[arg-type]

    assert any(
        f"too {said}" in text for text in weigh(metrics, None, (), calibration((low, high))).no
    )
    for limits in ((0.8, 1.2), (np.nan, np.nan)):  # without a slope nothing is known against it
        belief = weigh(metrics, None, (), calibration(limits))
        assert not any("slope" in text for text in belief.no)


def test_no_external_validation_is_always_said(metrics: dict[str, Any]) -> None:
    assert "no external validation" in weigh(metrics).no[-1]


@pytest.mark.parametrize(
    ("low", "unreliable", "believed", "said"),
    [
        (0.6, None, True, "In the external cohort B, too, it beats chance: AUC 0.80 (0.60 to 0.90"),
        (0.4, None, False, "That it works in the external cohort B: chance (0.50) is not excluded"),
        (0.6, "few", False, "That its AUC in the cohort B is known: few, AUC 0.80"),
        (None, None, False, "That its AUC in the cohort B is known: no usable interval"),
    ],
)
def test_another_cohort_is_believed_by_its_interval(
    metrics: dict[str, Any], low: float | None, unreliable: str | None, believed: bool, said: str
) -> None:
    auc = {
        "estimate": 0.8,
        "intervals": {"logit_delong": span(low, None if low is None else 0.9)},
        "unreliable": unreliable,
    }
    other = metrics | {"external": "B", "n": 50, "model": {"auc": auc}}
    belief = weigh(metrics, external=[other])
    assert any(text.startswith(said) for text in (belief.yes if believed else belief.no))
    assert not any(text.startswith(said[:20]) for text in (belief.no if believed else belief.yes))
    assert belief.no[-1] == "That it works everywhere: beside its own cohort it was judged on B."
    assert not any("no external validation" in text for text in belief.no)


@pytest.mark.parametrize(("score", "told"), [(0.66, True), (0.61, False), (0.55, False)])
def test_folds_on_scales_of_their_own_are_told(
    metrics: dict[str, Any], score: float, told: bool
) -> None:
    belief = weigh(metrics, POOLED, score=score)
    found = [text for text in belief.no if "inside the folds the AUC is 0.66" in text]
    assert bool(found) == told
    assert not told or "over the pooled folds 0.60 (0.50 to 0.70; development n = 80)" in found[0]
