"""The phantom's truth: references that a model can be judged against, and the paper's figures."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cohort.drawing.phantom import draw_patients
from cohort.drawing.truth import (
    IMPAIRED,
    REFERENCE_SIZE,
    TARGETS,
    TRAITS,
    _draw_reference,
    measure_ceilings,
    reserve_is_impaired,
    write_truth,
)
from cohort.segments import SEGMENTS, segment_columns
from spaces.run_files import read_json


@pytest.fixture(scope="module")
def ceilings():
    return measure_ceilings(
        ("impaired_any", "sex", "smoking"), ("rest", "reserve", "stack"), patients=1500
    )


@pytest.fixture(scope="module")
def reference():
    return _draw_reference(20_000)


def test_impaired_from_reserve_is_certain_by_definition(ceilings):
    assert ceilings["impaired_any"]["reserve"] == {"auc": 1.0, "source": "definition"}
    assert ceilings["impaired_any"]["stack"] == {"auc": 1.0, "source": "definition"}
    assert 0.65 < ceilings["impaired_any"]["rest"]["auc"] < 0.8


def test_the_least_reserve_of_a_territory_separates_its_impaired_patients(reference):
    values, outcomes = reference
    lowest = values["reserve"][:, :SEGMENTS].min(axis=1)
    assert roc_auc_score(outcomes["impaired_any"], -lowest) == 1.0


def test_sex_is_in_the_means_and_smoking_only_within_segments(ceilings):
    sex, smoking = ceilings["sex"]["rest"], ceilings["smoking"]["rest"]
    assert sex["segments_auc"] == pytest.approx(sex["auc"], abs=0.03)
    assert smoking["segments_auc"] < 0.6
    assert smoking["auc"] > 0.8
    assert smoking["source"] in ("logistic regression", "gradient boosting")


def test_references_are_the_same_at_every_call(ceilings):
    again = measure_ceilings(("sex",), ("rest",), patients=1500)
    assert again["sex"]["rest"] == ceilings["sex"]["rest"]


def test_the_coarse_maps_of_the_reference_have_the_segment_values_of_full_ones():
    coarse = draw_patients(range(40), seed=3, size=REFERENCE_SIZE, inputs=())
    full = draw_patients(range(40), seed=3, size=228, inputs=())
    for name, segments in full.segments.items():
        assert np.abs(coarse.segments[name] / segments - 1).mean() < 0.015


def test_impaired_needs_one_segment_of_the_territory_below_two():
    reserve = np.full((3, 17), 2.0)
    reserve[1, 4] = 1.99  # segment 5, of the LCx
    reserve[2, 16] = 1.5  # segment 17, of the LAD
    told = {where: reserve_is_impaired(reserve, where).tolist() for where in IMPAIRED.values()}
    assert told == {
        "any": [False, True, True],
        "LAD": [False, False, True],
        "RCA": [False, False, False],
        "LCx": [False, True, False],
    }


def test_truth_with_references_covers_every_target_and_input(tmp_path):
    table = pd.DataFrame(np.full((4, 17), 2.5), columns=segment_columns("mfr"))
    table.loc[0, "mfr_03"] = 1.0
    table[list(TRAITS)] = 0
    write_truth(tmp_path / "truth.json", table, inputs=("stress",), patients=300)
    truth = read_json(tmp_path / "truth.json", "truth")
    assert set(truth["targets"]) == set(truth["ceilings"]) == set(TARGETS)
    assert truth["targets"]["impaired_RCA"]["prevalence"] == 0.25
    assert truth["targets"]["sex"] == {"column": "sex", "prevalence": 0.0}
    assert {name for told in truth["ceilings"].values() for name in told} == {"stress"}
    assert truth["reference"]["fitted_on"] == truth["reference"]["scored_on"] == 300


PREVALENCES = {"any": 0.680, "LAD": 0.501, "RCA": 0.546, "LCx": 0.348}
PAPER_PREVALENCES = {"any": 0.675, "LAD": 0.525, "RCA": 0.574, "LCx": 0.367}


@pytest.mark.parametrize("known", [PREVALENCES, PAPER_PREVALENCES])
def test_prevalences_agree_with_the_paper(reference, known):
    _, outcomes = reference
    for where, expected in known.items():
        assert outcomes[f"impaired_{where}"].mean() == pytest.approx(expected, abs=0.04), where


def test_flows_agree_with_the_paper(reference):
    values, _ = reference
    for name, mean, spread in (
        ("rest", 0.99, 0.22),
        ("stress", 2.31, 0.53),
        ("reserve", 2.40, 0.63),
    ):
        patient = values[name][:, :SEGMENTS].mean(axis=1)
        assert patient.mean() == pytest.approx(mean, rel=0.02)
        assert patient.std() == pytest.approx(spread, rel=0.05)


@pytest.mark.slow
def test_logistic_regression_agrees_with_the_paper():
    measured = measure_ceilings(TARGETS, ("rest", "stress", "reserve"), patients=10_000)
    for target, name, expected in (
        ("impaired_any", "rest", 0.71),
        ("impaired_any", "stress", 0.80),
        ("sex", "rest", 0.85),
        ("sex", "stress", 0.64),
        ("sex", "reserve", 0.69),
        ("diabetes", "stress", 0.66),
        ("diabetes", "reserve", 0.67),
        ("smoking", "rest", 0.50),
    ):
        auc = measured[target][name]["segments_auc"]
        assert auc == pytest.approx(expected, abs=0.05), (target, name)
