"""What the report says of attention, and what it does not claim."""

import pytest

from analysis.report.attention_panel import _caption, _sanity
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


def test_a_run_of_an_earlier_version_has_no_verdict() -> None:
    assert "evaluate again" in _sanity(None)


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
