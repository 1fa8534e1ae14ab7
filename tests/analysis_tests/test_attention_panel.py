"""What the report says of attention, and what it does not claim."""

import numpy as np
import pytest

from analysis.judge.attention import ROWS, SEGMENT, segment_means
from analysis.report.attention_panel import (
    GRAD_CAM,
    OCCLUSION,
    _caption,
    _sanity,
    mean_by_class,
    say_covered,
    say_means,
)
from analysis.report.pointing_panel import _say


@pytest.mark.parametrize(
    ("confidence", "said", "is_highest"),
    [(0.97, "with 97\N{NO-BREAK SPACE}% confidence;", False), (0.9, "the highest there is", True)],
)
def test_a_caption_owns_up_to_a_confidence_of_no_more_than_ninety_percent(
    confidence: float, said: str, *, is_highest: bool
) -> None:
    caption = _caption({"called": "positive", "confidence": confidence})
    assert said in caption
    assert ("none exceeds 90" in caption) is is_highest
    assert "before the outcomes were opened" in caption


@pytest.mark.parametrize(
    ("low", "median", "high", "verdict"),
    [
        (0.1, 0.2, 0.49, "depend on what was learnt."),
        (0.1, 0.2, 0.5, "stays open."),
        (0.49, 0.7, 0.9, "stays open."),
        (0.5, 0.7, 0.9, "show little of what was learnt."),
    ],
)
def test_the_bulk_of_the_random_heads_decides_not_the_median(
    low: float, median: float, high: float, verdict: str
) -> None:
    said = _sanity({"draws": 20, "low": low, "median": median, "high": high})
    assert said.endswith(verdict)
    assert "20 times" in said
    assert f"by {median:.2f} in size" in said
    assert f"quartiles {low:.2f} and {high:.2f}" in said


def attended(negatives: int, positives: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Log odds, and what is measured of them: Grad-CAM of everybody, segments of every second."""
    generator, n = np.random.default_rng(0), negatives + positives
    rows = np.arange(0, n, 2)
    tensors = {
        "grad_cam": generator.normal(size=(n, 2, 7, 7)),
        SEGMENT: generator.normal(size=(len(rows), 2, 17)),
        ROWS: rows,
    }
    return np.repeat([-1.0, 1.0], [negatives, positives]), tensors


def test_the_mean_of_a_class_is_that_of_its_patients_by_either_method() -> None:
    log_odds, tensors = attended(11, 12)
    means = {(its.method, its.called): its for its in mean_by_class(log_odds, tensors)}
    assert {place: its.n for place, its in means.items()} == {
        (GRAD_CAM, "negative"): 11,
        (GRAD_CAM, "positive"): 12,
        (OCCLUSION, "negative"): 6,
        (OCCLUSION, "positive"): 6,
    }
    cams = segment_means(tensors["grad_cam"][11:, 1])
    covered = tensors[SEGMENT][6:, 1]  # rows 12, 14, .. were called positive
    for segment in range(17):
        found = means[GRAD_CAM, "positive"].of_segment(1, segment + 1)
        assert found == pytest.approx(cams[:, segment].mean())
        found = means[OCCLUSION, "positive"].of_segment(1, segment + 1)
        assert found == pytest.approx(covered[:, segment].mean())


def test_a_mean_of_fewer_than_five_is_withheld() -> None:
    means = mean_by_class(*attended(10, 4))
    assert [(its.n, its.field is None) for its in means] == [
        (10, False),
        (4, True),
        (5, False),
        (2, True),
    ]
    assert [its.of_segment(0, 1) is None for its in means] == [False, True, False, True]
    assert say_means(means).endswith("A mean of fewer than 5 is not shown.")
    assert "not shown" not in say_means(mean_by_class(*attended(10, 0)))


def test_it_is_said_of_how_many_the_segments_were_covered() -> None:
    said = say_covered([its for its in mean_by_class(*attended(10, 12)) if its.method == OCCLUSION])
    assert "at most 8 test patients were drawn at random before the outcomes were opened" in said
    assert "(here 5 called negative and 6 called positive)" in said


def row(territory: str, name: str, *, claimed: bool) -> dict[str, object]:
    return {"territory": territory, "map": name, "claimed": claimed}


def test_a_claim_names_vessel_map_and_that_the_patients_were_drawn() -> None:
    assert _say([row("LAD", "reserve", claimed=True)]) == (
        "In drawn patients with a tight LAD stenosis, Grad-CAM of the reserve map is strongest in "
        "the LAD territory more often than by chance."
    )
    said = _say(
        [
            row("LAD", "stress", claimed=True),
            row("LAD", "rest", claimed=False),
            row("RCA", "stress", claimed=True),
            row("RCA", "rest", claimed=False),
        ]
    )
    assert "Grad-CAM of the stress map is strongest in its territory" in said
    assert "so for LAD and RCA." in said
    assert said.endswith("is not claimed for LAD (rest) and RCA (rest).")
    assert "rest map" not in said
