"""The band of the ROC curve: what resampling patients one by one gives, and never a nan."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from analysis.judge.metric_tables import roc_points
from analysis.statistics.roc_band import roc_band


def band_of(positive: np.ndarray, score: np.ndarray, confidence: float = 0.95) -> pd.DataFrame:
    rates = roc_points(positive, score)
    generator = np.random.default_rng(0)
    return roc_band(rates, int(positive.sum()), len(positive), confidence, generator=generator)


@pytest.mark.parametrize("digits", [6, 0])
def test_it_agrees_with_drawing_patients_one_by_one(digits: int) -> None:
    generator = np.random.default_rng(1)
    positive = np.arange(90) < 30
    score = (generator.normal(size=90) + positive).round(digits)
    curves = []
    for _ in range(1000):
        who = generator.integers(0, 90, size=90)
        false_rate, true_rate, _ = roc_curve(positive[who], score[who], drop_intermediate=False)
        curves.append(np.interp(np.linspace(0, 1, 101), false_rate, true_rate))
    band = band_of(positive, score)
    for end, share in (("low", 0.025), ("high", 0.975)):
        assert np.abs(band[end] - np.quantile(curves, share, axis=0)).mean() < 0.01


def test_it_holds_the_curve_and_widens_with_confidence() -> None:
    positive = np.arange(60) % 3 == 0
    score = np.random.default_rng(2).normal(size=60) + positive
    rates = roc_points(positive, score)
    narrow, wide = band_of(positive, score, 0.8), band_of(positive, score, 0.99)
    at = narrow["false_positive_rate"]
    curve = np.interp(at, rates["false_positive_rate"], rates["true_positive_rate"])
    assert ((narrow["low"] <= curve) & (curve <= narrow["high"])).all()
    assert (wide["low"] <= narrow["low"]).all()
    assert (wide["high"] >= narrow["high"]).all()
    assert (wide["high"] - wide["low"]).mean() > (narrow["high"] - narrow["low"]).mean() + 0.1


def test_resamples_of_one_class_are_left_out() -> None:
    band = band_of(np.array([True, False, False]), np.array([2.0, 1.0, 3.0]))
    assert band.notna().to_numpy().all()
    assert band[["low", "high"]].to_numpy().min() >= 0
