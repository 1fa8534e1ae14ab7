"""Every slot of a run computes with one frozen trunk and one precision, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import prepare_run

from spaces.errors import RefusedError
from spaces.run_files import RunFiles
from trainable.problem import missing_parts, open_problem


def opened_elsewhere(run: RunFiles) -> None:
    """Open the run as a process on another machine does."""
    open_problem.cache_clear()
    open_problem(str(run.root), "cpu")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("precision", r"network\.precision: is \w+ on .*, and the run began with .*: scores"),
        ("trunk_sha256", r"network\.weights: give another frozen trunk on .* than when the run"),
    ],
)
def test_another_network_than_the_first_slot_had_is_refused(
    phantom: Path, tmp_path: Path, name: str, told: str
) -> None:
    run = prepare_run(tmp_path, phantom)
    open_problem.cache_clear()
    assert missing_parts(str(run.root), "cpu")
    opened_elsewhere(run)
    begun = json.loads(run.network.read_text())
    run.network.write_text(json.dumps(begun | {name: "float16" if name == "precision" else "0"}))
    with pytest.raises(RefusedError, match=told):
        opened_elsewhere(run)
