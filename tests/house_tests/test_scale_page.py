"""The benchmark of many slots: its arithmetic; and docs/scale.md, which holds what it measured."""

from __future__ import annotations

import pytest

from benchmarks import scale_page
from benchmarks.measuring import FOLDER
from benchmarks.scale import Plan, Sample, evaluate, goals_of, rows_of, utilisation, window
from benchmarks.sleeping_trials import Span
from benchmarks.speed_page import fill, read_results

# Two slots, four trials of one epoch: the second process starts 3 s later than the first, waits 1 s
# between its trials, and the last trial begins at 110.
SPANS = [
    Span(process=1, trial=11, began=100.0, seconds=5.0),
    Span(process=2, trial=12, began=103.0, seconds=3.0),
    Span(process=1, trial=13, began=105.0, seconds=5.0),
    Span(process=2, trial=14, began=107.0, seconds=4.0),
    Span(process=1, trial=15, began=110.0, seconds=5.0),
]
PLAN = Plan("asynchronous", 4, 5, 2)


def test_slots_are_watched_from_the_last_ones_start_to_the_last_hand_out() -> None:
    assert window(SPANS, 2) == (103.0, 110.0)
    # In generations of one only one slot ever works.
    assert window(SPANS, Plan("reproducible", 1, 5, 2).at_once) == (100.0, 110.0)
    assert PLAN.at_once == Plan("reproducible", 64, 5, 2).at_once == 2


def test_a_process_that_replaces_a_lost_one_does_not_prolong_the_warm_up() -> None:
    late = Span(process=3, trial=11, began=109.0, seconds=1.0)
    assert window([*SPANS, late], 2) == (103.0, 110.0)


def test_waiting_and_what_lies_outside_count_as_idle() -> None:
    # From 103 to 110 the first slot works for all 7 s, the second for 3 and 3: 13 of 14.
    assert utilisation(SPANS, 103.0, 110.0, 2) == pytest.approx(13 / 14)
    assert utilisation(SPANS, 103.0, 110.0, 4) == pytest.approx(13 / 28)


def test_the_drivers_costs_are_those_after_warm_up() -> None:
    samples = [
        Sample(100.0, 50.0, 90_000_000),
        Sample(103.0, 60.0, 100_000_000),
        Sample(110.0, 63.5, 170_000_000),
        Sample(112.0, 63.6, 160_000_000),
    ]
    found = evaluate(PLAN, SPANS, samples, 90.0, 115.0)
    assert found["seconds_of_warm_up"] == 13.0
    assert found["seconds_ideal"] == pytest.approx(22 / 2)
    assert found["trial_seconds"] == pytest.approx(22 / 5)
    assert found["driver_cpu_share"] == pytest.approx(0.5)
    # Reports at 105, 106 and 110 of ten a trial.
    assert found["reports_a_second"] == pytest.approx(3 / 7)
    assert found["driver_cpu_seconds_a_trial"] == pytest.approx(3.5 / 0.3)
    assert found["driver_mb"] == {"after_warm_up": 100.0, "at_the_end": 160.0, "highest": 170.0}
    assert [goal["reached"] for goal in goals_of(found)] == [False, False]


def searched(share: float) -> dict[str, object]:
    samples = [Sample(103.0, 0.0, 10**8), Sample(110.0, 7.0 * share, 10**8)]
    return {
        "order": PLAN.order,
        "generation": 4,
        "trials": 5,
        **evaluate(PLAN, SPANS, samples, 90.0, 115.0),
    }


def test_the_page_holds_what_was_measured() -> None:
    text = scale_page.PAGE.read_text(encoding="utf-8")
    filled = fill(text, read_results(FOLDER), scale_page.BLOCKS)
    assert filled == text, "run: python -m benchmarks.scale_page"
    assert all(f"<!-- {name} -->" in text for name in scale_page.BLOCKS)


def test_what_was_not_measured_follows_from_the_largest_size() -> None:
    one = searched(0.5)
    took = {"median": 2.0, "highest": 3.0}
    results = {
        "scale": {"settings": {"slots": 2}, "searches": [one], "goals": goals_of(one)},
        "slopes": {
            "images": {"images": 500, **took},
            "table": [
                {"rows": 100, "mb": 9.0, "median": 9.0},
                {"rows": 100_000, "mb": 50.0, **took},
            ],
            "proposal": [{"trials": 100, "median": 9.0}, {"trials": 5_000, "median": 0.05}],
            "log": {"median": 0.002, "highest": 0.01, "bytes": 700.0},
            "reading": [{"trials": 5_000, "mb": 30.0, **took}],
            "logits": [{"patients": 100_000, "mb": 8.0, **took}],
            "bank_bytes": {"resnet50": {"3": 250_000, "1": 4_000}},
        },
    }
    text = fill(
        "<!-- slots -->\n<!-- end -->\n<!-- far -->\n<!-- end -->", results, scale_page.BLOCKS
    )
    assert "| slots at work after warm-up, % | 92.9 |" in text
    assert "- at least 95% of the slots at work after warm-up: missed" in text
    assert "decoded and hashed once by the driver | 1.1 h |" in text
    assert "in each slot's memory | 0.5 GB |" in text
    assert "in the 10th epoch of a trial | 20.0 s, 80 MB |" in text
    assert "in all 10 epochs of a trial | 0.4 GB |" in text
    assert "ResNet-50, `trainable_layers: 3` | 4.25 TB |" in text
    assert "proposals a second, after 5,000 trials | 20 |" in text
    assert "epochs a second that the log takes | 500 |" in text
    # 3/7 reports a second take half a core.
    assert "epochs a second that fill one core with the driver | 1 |" in text
    assert "1,000 slots do not wait for it | 1,167 s |" in text
    assert fill(text, results, scale_page.BLOCKS) == text


def test_a_table_has_a_figure_for_each_search() -> None:
    rows = rows_of([searched(0.5), searched(0.2)])
    assert all(len(cells) == 2 for _, cells in rows)
