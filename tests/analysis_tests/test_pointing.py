"""The pointing game's phantoms, hits and verdicts."""

import numpy as np
import pytest
from finished_run import Run

from analysis.judge.attention import SIDE
from analysis.judge.pointing import area_share, find_hits, judge, why_not_played
from cohort.drawing.polar_map import canvas
from cohort.drawing.single_vessel import draw_single_vessel
from cohort.segments import TERRITORIES, indices_of


def spot(*segments: int) -> np.ndarray:
    """Return a field that is 1 in these segments (0-based), else 0."""
    return np.isin(canvas(SIDE).segment, segments).astype(float)


@pytest.mark.parametrize("territory", TERRITORIES)
def test_a_hit_lies_in_the_territory(territory: str) -> None:
    fields = np.stack([spot(at) for at in range(17)])
    expected = np.isin(np.arange(17), indices_of(territory))
    assert (find_hits(fields, territory) == expected).all()


def test_what_speaks_against_the_disease_is_no_hit() -> None:
    """Attention is signed: the strongest point is the highest, not the largest in size."""
    field = spot(*indices_of("RCA")) * -5 + spot(*indices_of("LAD"))
    assert find_hits(field[None], "LAD").all()
    assert not find_hits(field[None], "RCA").any()


def test_what_lies_outside_the_disc_or_is_the_same_everywhere_does_not_point() -> None:
    corner = spot(*indices_of("LCx"))
    corner[:4, :4] = 9.0
    assert find_hits(corner[None], "LCx").all()
    assert not find_hits(np.ones((1, 7, 7)), "LAD").any()


def test_area_shares_fill_the_disc() -> None:
    shares = {name: area_share(name) for name in TERRITORIES}
    assert sum(shares.values()) == pytest.approx(1)
    # Basal segments cover (1 - .75^2) / 6 of the disc, mid (.75^2 - .5^2) / 6, apical .1875 / 4.
    assert shares["RCA"] == pytest.approx(2 * 0.4375 / 6 + 2 * 0.3125 / 6 + 0.1875 / 4, abs=0.01)


@pytest.mark.parametrize(
    ("hits", "random_head", "claimed"),
    [(40, 0.1, True), (40, 0.95, False), (12, 0.0, False), (0, 0.0, False)],
)
def test_a_claim_needs_a_lower_bound_above_chance_and_the_random_head(
    hits: int, random_head: float, claimed: bool
) -> None:
    """Of 40: 40 hits reach down to .912; 12 (the share is .30) do not exceed chance."""
    found = (np.arange(40) < hits)[:, None]
    [row] = judge("RCA", found, np.array([random_head]), ["reserve"], 0.95)
    assert (row["hits"], row["claimed"]) == (hits, claimed)
    if hits == 40:
        assert row["low"] == pytest.approx(0.025 ** (1 / 40))


@pytest.mark.parametrize("vessel", TERRITORIES)
def test_single_vessel_phantoms_show_their_stenosis_where_it_is(vessel: str) -> None:
    """The diseased territory is darker than the others in every phantom, and drawn alike again."""
    maps = draw_single_vessel(vessel, 8, size=48, inputs=["reserve", "rest"])
    assert maps["reserve"].shape == (8, 3, 48, 48)
    assert (
        maps["reserve"] == draw_single_vessel(vessel, 8, size=48, inputs=["reserve"])["reserve"]
    ).all()
    level = maps["reserve"].transpose(0, 2, 3, 1) @ np.array([0.299, 0.587, 0.114])
    segment = canvas(48).segment
    inside = np.isin(segment, indices_of(vessel))
    darker = level[:, inside].mean(axis=1) / level[:, (segment >= 0) & ~inside].mean(axis=1)
    assert (darker < 0.85).all()


def test_the_game_is_played_only_where_it_says_something(run: Run) -> None:
    """The small study has a table of patients, a column as target and maps of 32 pixels."""
    assert "phantoms only" in str(why_not_played(run.study, run.cohort))
    (run.cohort.folder / "truth.json").write_text("{}")
    assert "no sign" in str(why_not_played(run.study, run.cohort))
    run.edit_study("target: impaired", "target: low\n  derive: {low: {below: 2.0}}")
    assert "too coarse" in str(why_not_played(run.study, run.cohort))
    run.edit_study("image_size: 32", "image_size: 96")
    assert why_not_played(run.study, run.cohort) is None
    run.edit_study("[reserve]", "[unknown]")
    assert "no such maps" in str(why_not_played(run.study, run.cohort))
