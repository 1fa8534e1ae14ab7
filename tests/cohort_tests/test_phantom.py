"""A phantom cohort is reproducible, its table tells what its maps show, and its truth is known."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cohort.drawing.fields import (
    NOISE_WIDTH,
    RIPPLED,
    _draw_noise,
    fields_of,
    ripple_of,
    ripple_pattern,
)
from cohort.drawing.phantom import COLUMNS, INPUTS, calibration_maps, draw_patients, draw_phantom
from cohort.drawing.polar_map import DISC, HIGHEST, canvas, colour_table
from cohort.drawing.population import SMOKING, populate
from cohort.segments import TERRITORIES, segment_columns
from spaces.errors import InputError
from spaces.run_files import read_json


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    table = pd.read_csv(draw_phantom(folder, patients=6, seed=4, size=64, ceiling=False))
    return folder, table


def test_a_patient_depends_on_seed_and_number_alone():
    together = draw_patients(range(4), seed=7, size=32)
    alone = draw_patients([2], seed=7, size=32, inputs=("reserve",))
    assert np.array_equal(alone.images["reserve"][0], together.images["reserve"][2])
    for name in INPUTS:
        assert np.array_equal(alone.segments[name][0], together.segments[name][2])
    assert {name: values[0] for name, values in alone.traits.items()} == {
        name: values[2] for name, values in together.traits.items()
    }
    other = draw_patients([2], seed=8, size=32, inputs=("reserve",))
    assert not np.array_equal(alone.images["reserve"], other.images["reserve"])


def test_a_larger_map_shows_the_same_patient():
    small, large = (draw_patients(range(3), seed=1, size=size) for size in (64, 160))
    for name in INPUTS:
        assert np.allclose(small.segments[name], large.segments[name], rtol=0.03)


def test_a_cohort_with_more_patients_begins_with_the_same_ones(written, tmp_path):
    folder, table = written
    path = draw_phantom(
        tmp_path, patients=3, seed=4, size=64, inputs=("stress", "reserve"), ceiling=False
    )
    fewer = pd.read_csv(path)
    assert "rest" not in fewer.columns
    assert fewer.equals(table.drop(columns="rest").head(3))
    for image in fewer["reserve"]:
        assert (tmp_path / image).read_bytes() == (folder / image).read_bytes()


def test_the_table_has_the_documented_columns(written):
    folder, table = written
    expected = ["patient_id", *INPUTS]
    expected += ["sex", "age", "diabetes", "smoking", "hypertension", "dyslipidaemia"]
    expected += ["family_history", "bmi", "duke_score", "rest_lvef", "stress_lvef"]
    for name in INPUTS:
        expected += segment_columns(COLUMNS[name])
    assert list(table.columns) == expected
    assert table["patient_id"].is_unique
    assert not any(name.startswith("impaired") for name in table.columns)
    with Image.open(folder / table["reserve"].iloc[0]) as image:
        assert (image.mode, image.size) == ("RGB", (64, 64))


@pytest.mark.parametrize("name", INPUTS)
def test_segment_values_in_the_table_are_those_in_the_pixels(written, name):
    folder, table = written
    disc, luma = canvas(64), colour_table() @ np.array([0.299, 0.587, 0.114])
    for _, row in table.iterrows():
        with Image.open(folder / row[name]) as image:
            seen = np.asarray(image).reshape(-1, 3)[disc.position] @ np.array([0.299, 0.587, 0.114])
        level = (seen - luma[0]) / (luma[-1] - luma[0])
        means = disc.segment_means(level[None] * HIGHEST[name])[0]
        told = row[segment_columns(COLUMNS[name])].to_numpy(np.float64)
        inside = told < 0.8 * HIGHEST[name]  # brighter ones may hold clipped pixels
        assert inside.sum() > 5
        assert np.allclose(means[inside], told[inside], atol=0.01 * HIGHEST[name])


def test_reserve_is_stress_over_rest_pixel_by_pixel():
    generator = np.random.default_rng(0)
    fields = fields_of(populate(2, generator=generator), 32, generator=generator)
    assert np.allclose(fields["reserve"] * fields["rest"], fields["stress"], rtol=1e-5)


def test_noise_has_unit_variance_everywhere_and_the_stated_width():
    noise = _draw_noise(4000, 33, np.random.default_rng(3))
    assert np.abs(noise.std(axis=0) - 1).max() < 0.06
    disc = canvas(33)
    centre = np.argmin(disc.radius)
    apart = np.abs(disc.radius - NOISE_WIDTH) < 0.5 / (DISC * 33)
    correlation = (noise[:, apart] * noise[:, [centre]]).mean(axis=0)
    assert correlation.mean() == pytest.approx(0.5, abs=0.06)


def test_the_pattern_of_smoking_averages_to_nothing_in_every_segment():
    disc = canvas(64)
    pattern = ripple_pattern(64)
    assert np.abs(disc.segment_means(pattern[None])).max() < 1e-12
    carriers = np.unique(disc.segment.ravel()[disc.position][np.abs(pattern) > 0.1]) + 1
    assert tuple(carriers) == RIPPLED


def test_smoking_is_in_the_pattern_of_rest_and_stress_but_not_of_reserve():
    generator = np.random.default_rng(11)
    population = populate(3000, generator=generator)
    fields = fields_of(population, 24, generator=generator)
    for name, least, most in (("rest", 0.8, 0.92), ("stress", 0.8, 0.92), ("reserve", 0.43, 0.57)):
        auc = roc_auc_score(population.traits["smoking"], ripple_of(fields[name], 24))
        assert least < auc < most, name


def test_no_map_saturates_all_over():
    generator = np.random.default_rng(12)
    fields = fields_of(populate(5000, generator=generator), 24, generator=generator)
    for name, field in fields.items():
        bright = (field > HIGHEST[name]).mean(axis=1)
        assert bright.max() < 0.95, name
        assert bright.mean() < 0.05, name


def test_a_stenosis_takes_flow_reserve_from_its_own_vessel():
    population = populate(4000, generator=np.random.default_rng(2))
    reserve = population.stress / population.rest
    outside = [number - 1 for number in (*TERRITORIES["LAD"], *TERRITORIES["LCx"])]
    right = [number - 1 for number in TERRITORIES["RCA"]]
    spared = reserve[:, outside].min(axis=1) > 2.3
    lost = (reserve[:, right] / np.median(reserve[:, outside], axis=1)[:, None]).min(axis=1)
    assert spared.sum() > 300
    assert 0.1 < (lost[spared] < 0.7).mean() < 0.5


def test_traits_have_their_prevalences():
    traits = populate(20_000, generator=np.random.default_rng(5)).traits
    for name, expected in (
        ("sex", 0.489),
        ("diabetes", 0.154),
        ("dyslipidaemia", 0.332),
        ("hypertension", 0.522),
        ("smoking", SMOKING),
    ):
        assert traits[name].mean() == pytest.approx(expected, abs=0.011), name
    women = traits["sex"] == 1
    assert traits["smoking"][women].mean() < traits["smoking"][~women].mean() - 0.03
    assert traits["age"].mean() == pytest.approx(66, abs=0.4)


def test_the_truth_beside_a_cohort_says_what_holds_by_definition(written):
    folder, table = written
    truth = read_json(folder / "truth.json", "truth")
    impaired = (table[segment_columns("mfr")] < 2).any(axis=1).mean()
    told = truth["targets"]["impaired_any"]
    assert told["prevalence"] == pytest.approx(impaired, abs=1e-6)
    assert (told["below"], told["segments"], told["columns"]) == (2.0, "any", "mfr")
    assert truth["ceilings"]["impaired_LAD"]["reserve"] == {"auc": 1.0, "source": "definition"}
    assert "rest" not in truth["ceilings"]["impaired_LAD"]


def test_calibration_maps_are_always_the_same_and_of_no_cohort():
    maps = calibration_maps(3, 32, "stress")
    assert maps.shape == (3, 3, 32, 32)
    assert maps.dtype == np.uint8
    assert np.array_equal(maps, calibration_maps(3, 32, "stress"))
    assert not np.array_equal(maps, calibration_maps(3, 32, "rest"))
    assert np.array_equal(calibration_maps(2, 32, "late"), calibration_maps(2, 32, "reserve"))
    cohort = draw_patients(range(3), seed=0, size=32).images["stress"]
    assert not any(np.array_equal(one, other) for one in maps for other in cohort)


def test_progress_is_told_after_every_patient(tmp_path):
    told = []
    draw_phantom(
        tmp_path,
        patients=3,
        size=16,
        inputs=("rest",),
        ceiling=False,
        progress=lambda done, all_: told.append((done, all_)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": 0}, r"phantom patients: must be at least 1, got 0"),
        ({"seed": 2**31}, r"phantom seed: must lie in 0\.\.2147483647, got 2147483648"),
        ({"size": 15}, r"phantom size: must be at least 16, got 15"),
        ({"inputs": ()}, r"phantom inputs: at least one is needed"),
        ({"inputs": ("rset",)}, r"unknown input rset\. Did you mean 'rest'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        draw_phantom(tmp_path / "cohort", ceiling=False, **wrong)
    assert not (tmp_path / "cohort").exists()


def test_the_global_random_state_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draw_patients([0], seed=0, size=16)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.slow
def test_smoking_can_be_learnt_from_rest_maps_but_not_from_segment_means():
    phantoms = draw_patients(range(6000), seed=21, size=32, inputs=("rest",))
    pixels = phantoms.images["rest"].reshape(6000, -1).astype(np.float32)
    smoking, learnt = phantoms.traits["smoking"], slice(0, 851)

    def auc(model, seen):
        model.fit(seen[learnt], smoking[learnt])
        return roc_auc_score(smoking[851:], model.decision_function(seen[851:]))

    linear = LogisticRegression(C=0.01, max_iter=1000)
    image = auc(make_pipeline(PCA(60, whiten=True, random_state=0), linear), pixels)
    means = auc(make_pipeline(StandardScaler(), linear), phantoms.segments["rest"])
    assert image > 0.75
    assert means < 0.56
