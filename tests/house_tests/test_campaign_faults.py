"""A study of a campaign that gives no model: who still runs, what is said, what stays sealed."""

from __future__ import annotations

import errno
import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from polartune import turns
from polartune.turns import Turn, train_in_turn
from search.place import Place
from spaces.campaign import Plan, read_campaign
from spaces.errors import InputError, NoCompleteTrialError
from spaces.run_files import RunFiles
from spaces.storage import unwritable

CAMPAIGN = {
    "format": "polartune/campaign/1",
    "name": "all",
    "inputs": {"rest": ["rest"], "stress": ["stress"]},
    "targets": ["impaired_any"],
    "transfer": {"targets": ["sex"]},
    "study": {
        "cohort": {
            "path": "cohort.csv",
            "derive": {"impaired_any": {"below": 2.0}},
            "colour_scale": "fixed",
        }
    },
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    return read_campaign(tmp_path / "campaign.yaml", tmp_path / "runs")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every study train at once, but for impaired_any-rest; return who did."""
    found: list[str] = []

    def retrain(run: RunFiles, *_: Any) -> None:
        if run.root.name == "impaired_any-rest":
            raise NoCompleteTrialError("trials.jsonl", "none of 4 is complete", "See run.log")
        found.append(run.root.name)

    monkeypatch.setattr(turns, "shared_folders", lambda *_: [])
    place = Place(slots=2, device="cpu", cpus=1, gpus=0.0, is_own=True)
    monkeypatch.setattr(turns, "placed", lambda *_: nullcontext(place))
    monkeypatch.setattr(turns, "driven", lambda *_: nullcontext())
    monkeypatch.setattr(turns, "search", lambda *_: None)
    monkeypatch.setattr(turns, "retrain", retrain)
    return found


def train(plan: Plan) -> None:
    line = [
        Turn(member.study, RunFiles(plan.root / member.study.name), None, member.follows)  # type: ignore[arg-type]
        for member in plan.members
    ]
    console = Console(file=io.StringIO(), width=80)
    train_in_turn("all", plan.folder, line, address=None, console=console)


def test_others_are_trained_and_followers_are_not(plan: Plan, trained: list[str]) -> None:
    told = (
        r"^all: 2 of 4 studies have no model \(impaired_any-rest: trials\.jsonl: none of 4 is "
        r"complete; sex-rest: starts from impaired_any-rest\)\. .*the test set is sealed"
    )
    with pytest.raises(NoCompleteTrialError, match=told):
        train(plan)
    assert trained == ["impaired_any-stress", "sex-stress"]


def test_a_full_disk_ends_the_campaign_with_what_it_says(
    plan: Plan, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is full for the studies that are left, too: none of them may be said to have no model."""

    def search(run: RunFiles, *_: Any) -> None:
        if run.root.name == "sex-stress":
            raise unwritable(str(run.trials), OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(turns, "search", search)
    with pytest.raises(InputError, match=r"sex-stress/trials\.jsonl: cannot be written \(No space"):
        train(plan)
    assert trained == ["impaired_any-stress"]
