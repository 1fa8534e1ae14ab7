"""README's walk from a folder of screenshots to the report: its commands, executed in order."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from patience import PATIENCE

from cohort.drawing.phantom import draw_phantom
from cohort.segments import segment_columns

HOME = Path(__file__).parents[2]
README = (HOME / "README.md").read_text(encoding="utf-8")
[WALK] = re.findall(r"^## Your own maps\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.split()[1:]
    for block in re.findall(r"```sh\n(.*?)```", WALK, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("polartune ")
]
MAPS = ("rest", "stress", "reserve")
# What the reader decides, and a network and a search that take seconds.
DECISIONS = {
    "inputs: [rest]": "inputs: [reserve]",
    "target: sex ": "target: impaired_any ",
    "colour_scale: unknown": "colour_scale: fixed",
    "test: 0.1 ": "test: 20 ",
    "folds: 5": "folds: 2",
    "backbone: resnet50 ": "image_size: 32\n  backbone: efficientnet_lite0 ",
    "{choices: [0.0, 0.25, 0.5, 0.75, 1.0]}": "0.0",
    "epochs: 20": "epochs: 2",
    "trials: 32": "trials: 2",
    "bootstraps: 4000": "bootstraps: 100",
}


def export(phantom: Path, folder: Path) -> None:
    """Lay out files and table as README says, with semicolons and decimal commas."""
    source = pd.read_csv(phantom)
    ids = [f"{3254257 + 11 * at}" for at in range(len(source))]
    table = pd.DataFrame({"patient_id": ids})
    (folder / "maps").mkdir(parents=True)
    for name in MAPS:
        table[name] = [f"maps/{one}_{name}.png" for one in ids]
        for old, new in zip(source[name], table[name], strict=True):
            shutil.copy(phantom.parent / old, folder / new)
    table = table.join(source[["sex", *segment_columns("mfr")]])
    table.to_csv(folder / "cohort.csv", index=False, sep=";", decimal=",", encoding="utf-8-sig")


def decide(folder: Path) -> None:
    """Edit the draft as README asks."""
    text = (folder / "study.yaml").read_text()
    for drafted, decided in DECISIONS.items():
        assert text.count(drafted) == 1, drafted
        text = text.replace(drafted, decided)
    text += "\nresources: {device: cpu, slots: 1}\n"
    (folder / "study.yaml").write_text(text)


def ask_again(runs: Path) -> None:
    """Stand in for the second run, which takes as long as the first: its copy, another study."""
    shutil.copytree(runs / "mine", runs / "mine-rest")
    study = runs / "mine-rest" / "study.yaml"
    text = study.read_text().replace("name: mine", "name: mine-rest")
    assert "inputs:\n  - reserve" in text
    study.write_text(text.replace("inputs:\n  - reserve", "inputs:\n  - rest"))


def expanded(words: list[str], folder: Path) -> list[str]:
    """Do what the shell does with a pattern of file names."""
    found = []
    for word in words:
        files = (
            sorted(path.relative_to(folder) for path in folder.glob(word)) if "*" in word else []
        )
        found += [str(path) for path in files] or [word]
    return found


def execute(words: list[str], folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "polartune", *expanded(words, folder)],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, ""), words
    return " ".join(result.stdout.split())


def test_the_walk_goes_from_a_table_to_a_comparison() -> None:
    names = [words[0] for words in COMMANDS]
    walk = ["init", "check", "run", "status", "run", "compare", "predict", "evaluate", "report"]
    assert names == walk


@pytest.mark.slow
def test_the_commands_of_the_walk_work(phantom: Path, tmp_path: Path) -> None:
    mine = tmp_path / "cohorts" / "mine"
    export(phantom, mine)
    shown = []
    for words in COMMANDS:
        if words == ["run", "cohorts/mine/rest.yaml"]:
            ask_again(tmp_path / "runs")
            continue
        if words[0] == "evaluate":
            draw_phantom(
                tmp_path / "cohorts" / "other",
                patients=30,
                seed=9,
                size=32,
                inputs=["reserve"],
                ceiling=False,
            )
        shown.append(execute(words, tmp_path))
        if words[0] == "init":
            decide(mine)
    drafted, checked, ran, status, compared, predicted, elsewhere, _ = shown
    assert "polartune check cohorts/mine/study.yaml" in drafted
    assert "an AUC of 0.8 on the test set would be known to about" in checked
    assert "warning" not in checked
    assert "no earlier step had seen" in ran
    assert "report done runs/mine/report.html" in status
    assert "paired bootstrap, n = 40" in compared
    assert "Wrote predictions.csv: 60 patients." in predicted
    assert "30 patients" in elsewhere
    assert "External validation" in (tmp_path / "runs" / "mine" / "report.html").read_text()
