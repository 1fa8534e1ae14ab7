"""The coverage of the intervals: what the packaged grid says, and that it can be measured again."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.judge import coverage
from analysis.judge.coverage import (
    TYPE_1_ERROR,
    comparison_sentence,
    coverage_sentence,
    nearest,
    read_grid,
)
from analysis.statistics.bootstrap import (
    BCA,
    CLOPPER_PEARSON,
    LOGIT_DELONG,
    PERCENTILE,
    Interval,
    auc_of,
    delong_variance,
    draw_resamples,
    logit_delong_interval,
)
from analysis.statistics.metrics import compare_aucs, describe_classifier
from benchmarks import coverage as benchmark
from benchmarks.coverage import AUCS, COMPARED_AUCS, PATIENTS, PREVALENCES, Cell, simulate, tally
from spaces.run_files import read_json

FILE = read_json(coverage.GRID, coverage.KIND)


def stored(kind: str, n: int, prevalence: float, auc: float) -> dict:
    (found,) = (
        cell
        for cell in FILE[kind]
        if (cell["n"], cell["prevalence"], cell["auc"]) == (n, prevalence, auc)
    )
    return found


@pytest.mark.parametrize(
    ("kind", "aucs", "statistics"),
    [
        (
            "cells",
            AUCS,
            {
                "auc_intervals": {PERCENTILE, BCA, LOGIT_DELONG},
                "accuracy_intervals": {PERCENTILE, CLOPPER_PEARSON},
            },
        ),
        ("comparisons", COMPARED_AUCS, {"difference_intervals": {PERCENTILE, BCA}}),
    ],
)
def test_the_file_holds_every_cell_with_its_standard_error(
    kind: str, aucs: tuple[float, ...], statistics: dict[str, set[str]]
) -> None:
    promised = set(product((93, 300, 1000), (0.15, 0.5), aucs))
    assert {(c["n"], c["prevalence"], c["auc"]) for c in FILE[kind]} == promised
    assert len(FILE[kind]) == len(promised)
    for cell, (statistic, methods) in product(FILE[kind], statistics.items()):
        assert cell["replicates"] >= 2000
        assert set(cell[statistic]) == methods | {"truth"}
        for method in methods:
            its = cell[statistic][method]
            share = its["coverage"]
            assert 0 < share < 1
            expected = np.sqrt(share * (1 - share) / cell["replicates"])
            assert its["standard_error"] == pytest.approx(expected)


def test_the_logit_interval_covers_what_it_promises_with_a_thousand_patients() -> None:
    judged = [cell for cell in read_grid() if cell.n == 1000 and cell.auc <= 0.8]
    assert len(judged) == 8
    for cell in judged:
        assert cell.rates[LOGIT_DELONG] == pytest.approx(0.95, abs=0.015)
    assert all(goal["reached"] for goal in FILE["goals"])


def test_as_many_resamples_as_a_study_draws_would_not_change_the_grid() -> None:
    check = FILE["resamples_check"]
    assert check["resamples"] == [FILE["settings"]["resamples"], 4000]
    for method in (PERCENTILE, BCA):
        its = check[method]
        few, many = its["coverage"]
        assert its["difference"] == pytest.approx(few - many)
        assert abs(its["difference"]) <= 3 * its["standard_error"]
        assert its["standard_error"] < 0.005


Wanted = Callable[[np.ndarray, np.ndarray], Interval]


def plain_delong(positive: np.ndarray, score: np.ndarray) -> Interval:
    half = 1.959964 * np.sqrt(delong_variance(positive, score))
    estimate = auc_of(positive, score)
    return Interval("wrong", estimate - half, estimate + half)


def half_as_wide(positive: np.ndarray, score: np.ndarray) -> Interval:
    right = logit_delong_interval(positive, score, 0.95)
    centre, half = (right.low + right.high) / 2, (right.high - right.low) / 4
    return Interval("wrong", centre - half, centre + half)


def logit_delong(positive: np.ndarray, score: np.ndarray) -> Interval:
    return logit_delong_interval(positive, score, 0.95)


@pytest.mark.parametrize(
    ("interval", "reproduces"), [(logit_delong, True), (plain_delong, False), (half_as_wide, False)]
)
def test_a_cell_measured_again_agrees_unless_the_interval_is_wrong(
    interval: Wanted, reproduces: bool
) -> None:
    def judge(cell: Cell, generator: np.random.Generator, resamples: int) -> dict:
        positive, (log_odds,) = cell.draw(generator, 1)
        return {"auc": {"measured": interval(positive, log_odds).as_dict()}}

    cell = Cell(93, 0.15, 0.94)
    limits = simulate(cell, judge, replicates=1500, resamples=0, seed=99)
    again = tally(limits["auc", "measured"], 0.94)
    its = stored("cells", 93, 0.15, 0.94)["auc_intervals"][LOGIT_DELONG]
    error = np.hypot(again["standard_error"], its["standard_error"])
    assert (abs(again["coverage"] - its["coverage"]) <= 3.5 * error) == reproduces


@pytest.mark.parametrize("kind", ["cells", "comparisons"])
def test_the_bootstrap_of_a_cell_measured_again_agrees(kind: str) -> None:
    again = benchmark.measure(kind, Cell(93, 0.15, 0.8), replicates=400, resamples=400, seed=99)
    name = "auc_intervals" if kind == "cells" else "difference_intervals"
    for method in (PERCENTILE, BCA):
        new, old = again[name][method], stored(kind, 93, 0.15, 0.8)[name][method]
        error = np.hypot(new["standard_error"], old["standard_error"])
        assert new["coverage"] == pytest.approx(old["coverage"], abs=3.5 * error)


@pytest.mark.parametrize(("prevalence", "auc"), [(0.15, 0.5), (0.15, 0.8), (0.5, 0.94)])
def test_the_truths_of_a_cell_are_those_of_very_many_patients(
    prevalence: float, auc: float
) -> None:
    cell = Cell(200_000, prevalence, auc)
    positive, (first, second) = cell.draw(np.random.default_rng(0), 2)
    assert auc_of(positive, first) == pytest.approx(auc, abs=0.006)
    assert auc_of(positive, second) == pytest.approx(auc, abs=0.006)
    assert np.mean((first >= 0) == positive) == pytest.approx(cell.accuracy, abs=0.004)
    within = [np.corrcoef(first[of], second[of])[0, 1] for of in (positive, ~positive)]
    assert within == pytest.approx([0.5, 0.5], abs=0.02)
    # The log odds are what they are called: of patients near 1, e / (1 + e) are positive.
    near = np.abs(first - 1) < 0.1
    if near.any():
        assert positive[near].mean() == pytest.approx(stats.logistic.cdf(1), abs=0.02)


def test_an_interval_that_misses_is_counted_on_its_side() -> None:
    limits = [(0.7, 0.9), (0.6, 0.75), (0.81, 0.9), (0.82, 0.9), (1.0, 1.0), (np.nan, np.nan)]
    found = tally(limits, 0.8)
    assert found["coverage"] == pytest.approx(1 / 6)
    assert (found["truth_below"], found["truth_above"]) == pytest.approx((3 / 6, 1 / 6))
    assert found["unusable"] == 2
    assert found["mean_width"] == pytest.approx((0.2 + 0.15 + 0.09 + 0.08) / 4)


def test_exchanging_the_classes_changes_no_interval() -> None:
    positive, (first, second) = Cell(93, 0.15, 0.8).draw(np.random.default_rng(1), 2)
    resamples = draw_resamples(positive, 300, generator=np.random.default_rng(2))
    one = describe_classifier(positive, first, {}, resamples, 0.95)["auc"]
    other = describe_classifier(~positive, -first, {}, resamples, 0.95)["auc"]
    reversed_ = describe_classifier(positive, -first, {}, resamples, 0.95)["auc"]
    for method in (PERCENTILE, BCA, LOGIT_DELONG):
        low, high = (one["intervals"][method][end] for end in ("low", "high"))
        its = other["intervals"][method]
        assert (its["low"], its["high"]) == pytest.approx((low, high), abs=1e-9)
        its = reversed_["intervals"][method]
        assert (its["low"], its["high"]) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    difference = compare_aucs(positive, first, second, resamples, 0.95)["estimate"]
    exchanged = compare_aucs(~positive, -first, -second, resamples, 0.95)["estimate"]
    assert exchanged == pytest.approx(difference)


@pytest.mark.parametrize(("n", "prevalence", "auc"), list(product(PATIENTS, PREVALENCES, AUCS)))
def test_each_cell_is_the_nearest_to_itself(n: int, prevalence: float, auc: float) -> None:
    cell = nearest(read_grid(), n, prevalence, auc)
    assert cell is not None
    assert (cell.n, cell.prevalence, cell.auc) == (n, prevalence, auc)
    its = stored("cells", n, prevalence, auc)["auc_intervals"]
    for method in (PERCENTILE, BCA, LOGIT_DELONG):
        assert cell.rates[method] == its[method]["coverage"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((93, 0.32, 0.83), (93, 0.5, 0.8)),
        ((93, 0.85, 0.8), (93, 0.85, 0.8)),
        ((93, 0.15, 0.2), (93, 0.15, 0.2)),
        ((1000, 0.05, 0.8), (300, 0.15, 0.8)),  # 50 positives are not 150
        ((299, 0.15, 0.77), (300, 0.15, 0.8)),
        ((90_000, 0.5, 0.57), (1000, 0.5, 0.6)),
    ],
)
def test_the_nearest_cell_is_like_the_study_in_both_classes(
    asked: tuple[int, float, float], expected: tuple[int, float, float]
) -> None:
    cell = nearest(read_grid(), *asked)
    assert cell is not None
    assert (cell.n, cell.prevalence, cell.auc) == pytest.approx(expected)


def test_a_mirrored_cell_has_the_coverage_of_its_image() -> None:
    cell, image = (
        nearest(read_grid(), 93, share, auc) for share, auc in ((0.85, 0.2), (0.15, 0.8))
    )
    assert cell is not None
    assert image is not None
    assert cell.rates == image.rates


@pytest.mark.parametrize(
    ("n", "prevalence", "auc"),
    [
        (40, 0.5, 0.8),
        (93, 0.05, 0.8),
        (93, 0.0, 0.8),
        (93, 0.5, 0.99),
        (93, 0.5, 0.0),
        (93, 0.5, np.nan),
    ],
)
def test_nothing_is_said_of_what_was_not_simulated(n: int, prevalence: float, auc: float) -> None:
    assert nearest(read_grid(), n, prevalence, auc) is None
    for sentence in (coverage_sentence, comparison_sentence):
        said = sentence(n, prevalence, auc, confidence=0.95)
        assert said.startswith("No simulation is near enough")


def plain(said: str) -> str:
    return said.replace("\N{NO-BREAK SPACE}", " ")


def test_the_sentence_quotes_the_file_for_every_method() -> None:
    its = stored("cells", 93, 0.15, 0.8)["auc_intervals"]
    shares = [100 * its[method]["coverage"] for method in (LOGIT_DELONG, PERCENTILE, BCA)]
    assert plain(coverage_sentence(95, 0.15, 0.81, confidence=0.95)) == (
        "In 2000 simulations with 93 patients, 15 % positive and an AUC of 0.80, nominal 95 % "
        "intervals covered the truth this often: "
        "logit-DeLong {:.1f} %, percentile {:.1f} %, BCa {:.1f} %.".format(*shares)
    )


@pytest.mark.parametrize(
    ("asked", "cell"),
    [
        ((95, 0.15, 0.91), (93, 0.15, 0.94)),
        ((95, 0.5, 0.55), (93, 0.5, 0.6)),
        ((310, 0.85, 0.75), (300, 0.85, 0.8)),  # mirrored
    ],
)
def test_the_sentence_on_comparisons_quotes_how_often_equals_were_told_apart(
    asked: tuple[int, float, float], cell: tuple[int, float, float]
) -> None:
    n, prevalence, auc = cell
    its = stored("comparisons", n, 0.5 if prevalence == 0.5 else 0.15, auc)["difference_intervals"]
    error = its[PERCENTILE]["type_1_error"]
    assert error != its[BCA]["type_1_error"]
    assert plain(comparison_sentence(*asked, confidence=0.95)) == (
        f"In 2000 simulations of two equally good classifiers ({n} patients, "
        f"{100 * prevalence:.0f} % positive, AUC {auc:.2f}, scores correlated by 0.5 within a "
        f"class) the interval of the difference left out 0 in {100 * error:.1f} % of them "
        "(nominal 5 %)."
    )


def test_every_comparison_that_was_simulated_can_be_quoted() -> None:
    cells = {(cell.n, cell.prevalence, cell.auc): cell for cell in read_grid(TYPE_1_ERROR)}
    assert set(cells) == set(product(PATIENTS, PREVALENCES, COMPARED_AUCS))
    for place, cell in cells.items():
        its = stored("comparisons", *place)["difference_intervals"][PERCENTILE]
        assert cell.rates[PERCENTILE] == pytest.approx(1 - its["coverage"])
        assert nearest(read_grid(TYPE_1_ERROR), *place) == cell
    worst = stored("comparisons", 93, 0.15, 0.94)["difference_intervals"][BCA]
    assert worst["type_1_error"] == pytest.approx(0.14, abs=0.005)  # as ``compare_aucs`` says


def test_the_sentences_speak_of_no_other_confidence_and_of_no_undefined_auc() -> None:
    at_90 = coverage_sentence(93, 0.15, 0.8, confidence=0.9)
    assert plain(at_90) == "Coverage was simulated for 95 % intervals only."
    assert comparison_sentence(93, 0.15, 0.8, confidence=0.9) == ""
    for sentence in (coverage_sentence, comparison_sentence):
        assert sentence(93, 0.15, None, confidence=0.95).startswith("No simulation")


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_and_ends_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def counted(kind: str, cell: Cell, **settings: int) -> dict:
        measured.append((kind, cell))
        if len(measured) == 8:
            raise KeyboardInterrupt
        return real(kind, cell, **settings)

    real = benchmark.measure
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
    benchmark.main(quick=True, out=whole)
    monkeypatch.setattr(benchmark, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(quick=True, out=resumed)
    assert not resumed.exists()
    partial = tmp_path / "resumed.partial.json"
    shutil.copy(partial, tmp_path / "kept.json")
    benchmark.main(quick=True, out=resumed)
    assert len(measured) == 18 + 1
    assert not partial.exists()
    first, second = (json.loads(path.read_text()) for path in (whole, resumed))
    del first["machine"], second["machine"]
    assert first == second
    assert len(json.loads((tmp_path / "kept.json").read_text())["cells"]) == 7


def test_other_settings_do_not_go_on_with_an_unfinished_run(tmp_path: Path) -> None:
    partial = tmp_path / "grid.partial.json"
    begun = benchmark._begin(partial, 20, 50, 1, fresh=False)
    begun["cells"].append({"n": 93})
    benchmark.write_json(partial, coverage.KIND, begun)
    assert benchmark._begin(partial, 20, 50, 1, fresh=False)["cells"] == [{"n": 93}]
    assert benchmark._begin(partial, 20, 50, 2, fresh=False)["cells"] == []
    assert benchmark._begin(partial, 20, 50, 1, fresh=True)["cells"] == []
