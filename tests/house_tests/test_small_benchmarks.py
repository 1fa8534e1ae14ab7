"""The small benchmarks run and write what they promise. Smoke only: no figure is judged."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from patience import PATIENCE
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from benchmarks import growth, measuring, scale, soak
from benchmarks.phantom_runs import fill_bank
from benchmarks.quality_summary import Curve, difference_of, summarise_ways
from polartune import steps
from spaces.run_files import RunFiles
from spaces.study import read_study

pytestmark = pytest.mark.slow

HOME = Path(__file__).parents[2]
NAMES = (
    *("overhead", "growth", "search_quality", "bootstrap", "limit", "paper_study", "tried"),
    *("scale", "slopes", "soak", "campaign", "faults.__main__", "faults.peers"),
)


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *words],
        cwd=HOME,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture
def quick(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a benchmark in its smoke mode and returns its result file."""

    def smoke(name: str, *words: str) -> dict[str, Any]:
        out = tmp_path / f"{name}.json"
        done = run(name, "--quick", "--out", str(out), *words)
        assert done.returncode == 0, done.stderr[-2000:]
        lines = done.stdout.splitlines()
        assert max(len(line) for line in lines if not line.startswith("Wrote")) <= 80
        result = json.loads(out.read_text(encoding="utf-8"))
        assert result["format"] == f"polartune/benchmark-{name.replace('.', '-')}/1"
        assert result["quick"] is True
        assert {"processor", "cores", "memory_gb", "packages"} <= result["machine"].keys()
        return dict(result)

    return smoke


def test_bootstrap(quick: Callable[..., dict[str, Any]]) -> None:
    result = quick("bootstrap")
    assert max(result["largest_difference"].values()) < 1e-12
    assert result["times_faster"]["median"] > 0


def test_paper_study(quick: Callable[..., dict[str, Any]]) -> None:
    """The whole command on a small cohort: every step is timed, every epoch counted."""
    result = quick("paper_study")
    assert result["steps"].keys() == {"bank", "search", "select", "retrain", "evaluate", "report"}
    assert result["trials"] == result["study"]["search"]["trials"] == 5
    assert 0 < result["epochs"] <= result["epochs_without_pruning"] == 20
    # 60 development patients, the plain image and four strengths of four views.
    assert result["bank_images"] == 60 * (1 + 4 * 4)
    assert result["peak_gb"] > 0.1


def test_overhead(quick: Callable[..., dict[str, Any]]) -> None:
    result = quick("overhead")
    assert result["milliseconds_a_trial"].keys() == {"ours", "raw"}
    assert result["first_epoch"]["seconds"]["values"][0] > 0
    assert len(result["goals"]) == 2


def test_scale(quick: Callable[..., dict[str, Any]]) -> None:
    """Both orders run all their trials, and processes are kept."""
    result = quick("scale")
    assert [one["order"] for one in result["searches"]] == ["asynchronous", "reproducible"]
    for one in result["searches"]:
        assert (one["trials"], one["slots"]) == (8, 2)
        # One where the other is so slow to start that nothing is left for it.
        assert 1 <= one["processes"] < 8
        assert 0 <= one["utilisation"] <= 1
        assert 1 < one["trial_seconds"] < 2
        assert one["driver_mb"]["after_warm_up"] > 10
    assert len(result["goals"]) == 2


def test_soak(quick: Callable[..., dict[str, Any]]) -> None:
    """Processes are killed, their trials start again, and each ends once."""
    result = quick("soak")
    assert result["killed"] > 0
    assert result["started_again"] > 0
    assert result["ended_once"]
    assert result["complete"] + result["failed"] == result["trials"] == 6
    assert len(result["goals"]) == 4


@pytest.mark.parametrize("missing", ["", "killed", "started_again", "ended_once", "failed"])
def test_a_missed_goal_of_the_soak_is_its_exit_code(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"killed": 9, "started_again": 9, "ended_once": True, "failed": 0, "complete": 1000}
    found |= {missing: int(missing == "failed")} if missing else {}
    more = {"seconds": 1.0, "driver_mb": {"after_warm_up": 100.0, "at_the_end": 120.0}}
    monkeypatch.setattr(soak, "soak", lambda *_, **__: found | more)
    app = typer.Typer()
    app.command()(soak.main)
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "soak.json")])
    assert done.exit_code == bool(missing), done.output


@pytest.mark.parametrize(("busy", "grown", "code"), [(0.96, 49, 0), (0.94, 49, 1), (0.96, 51, 1)])
def test_a_missed_goal_of_the_scale_is_its_exit_code(
    busy: float, grown: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        "utilisation": busy,
        "driver_mb": {"after_warm_up": 100.0, "at_the_end": 100.0 + grown},
    }
    monkeypatch.setattr(scale, "connected", lambda _: nullcontext())
    monkeypatch.setattr(scale, "measure", lambda *_: found)
    monkeypatch.setattr(scale, "show", lambda *_: None)
    app = typer.Typer()
    app.command()(scale.main)
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "scale.json")])
    assert done.exit_code == code, done.output


def test_campaign(quick: Callable[..., dict[str, Any]]) -> None:
    """Every cell is judged on fresh phantoms, by its own model and its own regression."""
    result = quick("campaign")
    cells = result["fresh"]["cells"]
    named = [(cell["target"], cell["input"]) for cell in cells]
    assert named == [("impaired_any", "stack"), ("sex", "stack")]
    assert len(result["tested"]) == 2
    assert cells[0]["ceiling"] == 1.0, "who sees reserve can know who is impaired"
    assert cells[0]["auc"] > 0.9
    assert cells[0]["regression_auc"] != cells[1]["regression_auc"]
    assert all(cell["difference_low"] <= cell["difference_high"] for cell in cells)


def test_slopes(quick: Callable[..., dict[str, Any]]) -> None:
    result = quick("slopes")
    assert [one["rows"] for one in result["table"]] == result["settings"]["rows"]
    assert [one["trials"] for one in result["proposal"]] == result["settings"]["trials"]
    assert result["log"]["bytes"] > 300
    # (1152, 7, 7) and (1280,) outputs of two bytes, or four where bf16 is slow.
    sizes = result["bank_bytes"]["efficientnet_lite0"]
    assert sizes["3"] in {1152 * 49 * size for size in (2, 4)}
    assert sizes["1"] in {1280 * size for size in (2, 4)}


def test_search_quality(quick: Callable[..., dict[str, Any]]) -> None:
    result = quick("search_quality", "--processes", "1")
    assert len(result["ways"]) == 6
    assert result["default"] == "tpe+asha"
    assert result["winner"] in result["ways"]
    assert result["default_minus"].keys() == result["ways"].keys() - {"tpe+asha"}
    counted, computed = result["epochs"]["counted"], result["epochs"]["computed"]
    curves = [curve for one in result["seeds"] for curve in one["curves"].values()]
    assert sum(curve["total"] for curve in curves) == counted > computed
    for curve in curves:
        assert curve["best"] == sorted(curve["best"])
        assert curve["epochs"][-1] <= curve["total"]


def curve(best: list[float], *, each: int = 10) -> Curve:
    """A search that finds something better every ``each`` epochs."""
    ends = tuple(range(each, each * len(best) + 1, each))
    return Curve(ends, tuple(best), ends[-1], 0, selected=best[-1], chosen={}, fresh=best[-1])


def test_ways_are_compared_after_equally_many_epochs() -> None:
    """In each seed the search that ends first says after how many; a tie is the default's."""
    curves = {
        "tpe+none": [curve([0.6, 0.7, 0.9]), curve([0.5, 0.5, 0.9])],
        "tpe+asha": [curve([0.6, 0.7]), curve([0.5, 0.6, 0.7], each=5)],
    }
    found = summarise_ways(curves, full=30)
    assert found["equal_epochs"] == [20, 15]
    assert found["ways"]["tpe+none"]["at_equal_epochs"]["median"] == pytest.approx(0.6)
    assert found["winner"] == "tpe+asha"
    assert found["default_minus"]["tpe+none"]["selected"]["mean"] == pytest.approx(-0.2)
    assert found["ways"]["tpe+none"]["after"]["7"] is None
    tie = summarise_ways({"random+none": curves["tpe+asha"], **curves}, full=30)
    assert tie["winner"] == "tpe+asha"


def test_a_difference_has_the_interval_of_the_paired_t_test() -> None:
    one, other = np.random.default_rng(0).normal(0.8, 0.02, (2, 12))
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    found = difference_of(one, other)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["excludes_zero"] == (expected.low > 0 or expected.high < 0)
    assert difference_of(one + 1.0, other)["excludes_zero"]
    assert not difference_of(one, one)["excludes_zero"]


def test_growth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The searches fill their banks and train nothing; what they took is invented."""

    def fake_search(run: RunFiles) -> growth.Search:
        fill_bank(run)
        run.trials.touch()
        trials = read_study(run.study).search.trials
        samples = 2 * trials * growth.training_samples(run)
        return growth.Search(10.0 + trials, 4.0, 1.0 + trials, 2.0 * trials, samples, 10**9)

    monkeypatch.setattr(growth, "search", fake_search)
    monkeypatch.setattr(growth, "interrupt", fake_search)
    out = tmp_path / "growth.json"
    growth.main(folder=tmp_path, quick=True, out=out)
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["counted"] == {
        "parts": 2,
        "written_by_a_second_target": 0,
        "written_by_a_resumed_run": 0,
        "lines_lost_by_a_resumed_run": 0,
    }
    # 72 development patients, five folds: each patient trains in four of them.
    assert result["trials"]["short"]["samples"] == 2 * 2 * 4 * 72
    # Two trials more on two slots, 2 s each: 2 s more than the 8 s of the short search.
    assert result["trials"]["seconds_predicted"] == pytest.approx(10.0)
    assert result["trials"]["seconds_measured"] == pytest.approx(10.0)
    assert result["patients"]["share_of_linear"]["bank"] == pytest.approx(0.5)
    assert all(goal["reached"] for goal in result["goals"])
    assert list(tmp_path.iterdir()) == [out]


def test_the_seconds_of_a_step_are_read_from_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, 99.0, 100.0, 112.5))
    monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for _ in range(2):  # the last time is the one that counts
        with caplog.at_level("INFO"), steps.step("bank", Console(quiet=True)):
            pass
    assert measuring.step_seconds("bank", caplog.text) == 12.5


def test_memory_is_that_of_all_processes_below() -> None:
    hold = "x = bytearray(200_000_000); print('held', flush=True); input()"
    above = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", above], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        process.stdout.readline()
        with measuring.MemorySampler(process.pid) as during:
            pass  # one sample is taken in any case
    finally:
        process.communicate(b"\n")
    assert 2.0e8 < during.peak < 2.5e8


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_a_help(name: str) -> None:
    app = typer.Typer()
    app.command()(importlib.import_module(f"benchmarks.{name}").main)
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert "--quick" in done.output


def test_faults_of_the_peers(quick: Callable[..., dict[str, Any]]) -> None:
    """Files are damaged and the script is started again; what is seen is theirs, not judged."""
    result = quick("faults.peers")
    [row] = result["rows"]
    assert row["fault"] == "checkpoints truncated"
    assert row["played"]
    assert len(row["exit_codes"]) == 1
