"""Whatever is wrong with what a user gives: one line that says where and what to do, and no run."""

from __future__ import annotations

import re
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from small_runs import small_study

from cohort.segments import segment_columns
from polartune.__main__ import main
from spaces.run_files import RunFiles, sha256_of
from spaces.session import driving

LONGEST = 600
PATIENT = re.compile(r"phantom_\d")


class Inputs:
    """A sound cohort and study of it, to be broken in one way and then written."""

    def __init__(self, folder: Path, phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.table = pd.read_csv(phantom, dtype=str)
        (folder / "images").mkdir()
        for path in self.table["reserve"]:
            shutil.copy(phantom.parent / path, folder / path)
        self.study = small_study(Path("cohort.csv"), **{"cohort.target": "sex"})
        self.study["cohort"].pop("derive")
        self.runs = folder / "runs"
        self.encode: Callable[[str], bytes] = str.encode
        self.retype: Callable[[str], str] = str
        self.during = ExitStack()

    def set(self, dotted: str, value: Any) -> None:
        *sections, last = dotted.split(".")
        section = self.study
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value

    def cells(self, column: str, value: Any, rows: Any = 0) -> None:
        self.table.loc[rows, column] = value

    def image(self, row: int = 0) -> Path:
        return self.folder / self.table["reserve"][row]

    def weights(self, state: Any, sha256: str | None = None) -> None:
        path = self.folder / "weights.pth"
        torch.save(state, path)
        weights = {"file": path.name, "sha256": sha256 or sha256_of(path)}
        self.study["network"] |= {"backbone": "resnet18", "weights": weights}

    def write(self) -> Path:
        (self.folder / "cohort.csv").write_bytes(self.encode(self.table.to_csv(index=False)))
        study = self.folder / "study.yaml"
        study.write_text(self.retype(yaml.safe_dump(self.study, sort_keys=False)))
        return study


@pytest.fixture
def inputs(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    return Inputs(tmp_path, phantom, monkeypatch)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return what runs the command line: exit code, stdout, stderr."""

    def call(*words: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["polartune", *map(str, words)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr("signal.signal", lambda *_: None)
        monkeypatch.setenv("COLUMNS", "500")
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return call


def sets(dotted: str, value: Any) -> Callable[[Inputs], None]:
    return lambda inputs: inputs.set(dotted, value)


def cells(column: str, value: Any, rows: Any = 0) -> Callable[[Inputs], None]:
    return lambda inputs: inputs.cells(column, value, rows)


def encodes(how: Callable[[str], bytes]) -> Callable[[Inputs], None]:
    return lambda inputs: setattr(inputs, "encode", how)


def writes_1e_3(inputs: Inputs) -> None:
    inputs.set("space.learning_rate", 0.5)
    inputs.retype = lambda text: text.replace("learning_rate: 0.5", "learning_rate: 1e-3")


def truncated(inputs: Inputs) -> None:
    inputs.image().write_bytes(inputs.image().read_bytes()[:120])


def links_outside(inputs: Inputs) -> None:
    outside = inputs.folder.with_name(inputs.folder.name + "_outside.png")
    inputs.image().rename(outside)
    inputs.image().symlink_to(outside)


def same_pixels(inputs: Inputs) -> None:
    Image.open(inputs.image(3)).save(inputs.image(7), compress_level=0)


def rare_class(inputs: Inputs) -> None:
    inputs.cells("sex", "0", slice(None))
    inputs.cells("sex", "1", slice(0, 8))
    inputs.set("cohort.split", {"test": 12, "seed": 1})


def one_sided_test_set(inputs: Inputs) -> None:
    ones = np.flatnonzero(inputs.table["sex"] == "1")
    inputs.table["split"] = "development"
    inputs.cells("split", "test", ones[:5])
    inputs.set("cohort.split", {"column": "split", "stratify": True})


def derived_differs(inputs: Inputs) -> None:
    inputs.table["impaired"] = "0"
    inputs.cells("mfr_05", "0.5", slice(None))
    inputs.set("cohort.target", "impaired")
    inputs.set("cohort.derive", {"impaired": {"below": 2.0}})


def header_only(inputs: Inputs) -> None:
    inputs.table = inputs.table[:0]


def no_download(inputs: Inputs) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    inputs.monkeypatch.setenv("TORCH_HOME", str(inputs.folder / "torch"))
    inputs.monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    inputs.study["network"] |= {"backbone": "resnet18", "weights": "imagenet"}


def small_disk(inputs: Inputs) -> None:
    usage = namedtuple("usage", "total used free")
    inputs.monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 0, 1000))


def driven_already(inputs: Inputs) -> None:
    inputs.during.enter_context(driving(RunFiles(inputs.runs / "small")))


def latin_1(text: str) -> bytes:
    return text.replace("patient_id", "patient_id,stra\xdfe").encode("latin-1")


STATE = {"conv1.weight": torch.zeros(2)}
BREAKS: dict[str, tuple[Callable[[Inputs], None], str]] = {
    "unknown key": (sets("serach", {}), r"study\.yaml:\d+ serach: unknown key\. Did .* 'search'\?"),
    "1e-3": (
        writes_1e_3,
        r"study\.yaml:\d+ space.learning_rate: .*got '1e-3'\. YAML reads 1e-3 as text; write 0.001",
    ),
    "low above high": (
        sets("space.learning_rate", {"low": 0.1, "high": 0.01}),
        r"space.learning_rate: low must be < high, got low 0\.1 and high 0\.01; exchange them",
    ),
    "lambda": (
        sets("space.lambda", 1.5),
        r"study\.yaml:\d+ space\.lambda: must be in \[0, 1\], got 1\.5; keep",
    ),
    "long value": (sets("seed", ["x" * 900]), r"seed: should be a valid integer, got \['xxx.*\.\."),
    "missing image": (
        lambda inputs: inputs.image().unlink(),
        r"cohort\.csv row 2 reserve: the image file is missing\. Correct the path or",
    ),
    "truncated image": (truncated, "row 2 reserve: the image file is truncated or damaged. Export"),
    "image of one pixel": (
        lambda inputs: Image.new("RGB", (1, 1)).save(inputs.image()),
        "row 2 reserve: the image must be at least 16 pixels a side, got .*. Export the polar map",
    ),
    "path upwards": (cells("reserve", "../x.png"), "row 2 reserve: the path leaves .* Move the"),
    "absolute path": (
        cells("reserve", "/x.png"),
        "row 2 reserve: the path must be relative. Write",
    ),
    "link outside": (links_outside, "row 2 reserve: the path leaves .* symbolic link. Copy the"),
    "duplicate patient": (
        cells("patient_id", "phantom_0000", 5),
        "2 broken cells: .* more than one row: row 2 patient_id, row 7 patient_id. Keep one row",
    ),
    "same pixels twice": (same_pixels, "row 9 reserve: .* same pixels as one of row 5. Two pat"),
    "one class": (
        cells("sex", "1", slice(None)),
        "cohort.target: the 48 .* both classes, got 0 with 0, 48 with 1, 0 unknown. Choose another",
    ),
    "third value": (
        cells("sex", "2"),
        r"row 2 sex: a target must be 0, 1 or empty, got .* Write 1",
    ),
    "text target": (
        cells("sex", "female", slice(None)),
        r"60 broken cells: a target must be 0, 1 or empty: row 2 sex, .* and 50 more\. Write 1 for",
    ),
    "fold without class": (rare_class, r"cohort.split: fold \d of 5 holds no .* is 1\. .*stratify"),
    "test set without class": (
        one_sided_test_set,
        "cohort.split: the test set lacks a class. Change the column 'split': stratify",
    ),
    "16 segments": (
        lambda inputs: inputs.table.pop("mfr_09"),
        "row 1: 16 of 17 segment columns 'mfr' are there, mfr_09 missing. Give all 17",
    ),
    "negative flow reserve": (
        cells("mfr_03", "-0.5"),
        "row 2 mfr_03: a segment value must be >= 0, got .*. Correct it, or leave the cell empty",
    ),
    "derived target differs": (
        derived_differs,
        "60 broken cells: the given target differs .*derive.impaired computes: row 2 .* Remove the",
    ),
    "header alone": (header_only, r"cohort\.csv: the cohort is empty: 0 rows.* Add patients"),
    "no byte": (encodes(lambda _: b""), r"cohort\.csv: the file holds no header row\. Write the"),
    "no download": (
        no_download,
        r"weights: https://.* cannot be downloaded .*no route.*sha256.*_lite0 .*\[demo\]' needs no",
    ),
    "other architecture": (
        lambda inputs: inputs.weights(STATE),
        "network.weights: the weights are not those of a resnet18, first difference: .* Give a",
    ),
    "no weights at all": (
        lambda inputs: inputs.weights([1, 2]),
        "network.weights.file: cannot be read as weights .* Give a .safetensors",
    ),
    "weights file missing": (
        sets("network.weights", {"file": "gone.pth", "sha256": "0" * 64}),
        r"network.weights.file: no such file: .*gone\.pth\. Correct the path",
    ),
    "small disk": (
        small_disk,
        r"bank.path: the feature bank needs .* GB, 1e-06 GB are free\. Give another folder",
    ),
    "no such input": (
        lambda inputs: inputs.set("cohort.inputs", ["resreve"]),
        r"row 1: column 'resreve' is missing \(cohort.inputs .*Did you mean 'reserve'\?",
    ),
    "UTF-16": (encodes(lambda text: text.encode("utf-16")), "must be UTF-8 text, got UTF-16.*Save"),
    "Latin-1": (
        encodes(latin_1),
        r"cohort\.csv line 1: the file must be UTF-8 .*0xdf.*Latin-1.*Save",
    ),
}
REFUSALS: dict[str, tuple[Callable[[Inputs], None], str]] = {
    "wrong digest": (
        lambda inputs: inputs.weights(STATE, "0" * 64),
        "network.weights.sha256: the file's sha256 must be 0{64}, got [0-9a-f]{64}. Check where",
    ),
    "second driver": (driven_already, "runs/small: another polartune works on this run. Wait"),
}


@pytest.mark.parametrize(
    ("name", "exit_code"), [(name, 2) for name in BREAKS] + [(name, 5) for name in REFUSALS]
)
def test_bad_input_is_one_line_and_leaves_no_run(inputs, command, name, exit_code) -> None:
    break_it, message = (BREAKS | REFUSALS)[name]
    break_it(inputs)
    study = inputs.write()
    with inputs.during:
        code, shown, told = command("run", study, "--out", inputs.runs)
    assert code == exit_code
    assert told.startswith("polartune: ")
    assert told.count("\n") == 1
    assert re.search(message, told), told
    assert len(told) <= LONGEST
    assert not PATIENT.search(told)
    assert "Downloading" not in shown
    if name == "second driver":
        assert not (inputs.runs / "small" / "study.yaml").exists()
    else:
        assert not inputs.runs.exists()


def without_segments(inputs: Inputs) -> None:
    inputs.table = inputs.table.loc[:, lambda table: ~table.columns.str.match(r".*_\d\d$")]
    inputs.set("cohort.segments", None)


SOUND: dict[str, tuple[Callable[[Inputs], None], str]] = {
    "nothing changed": (lambda _: None, "small: sex from reserve"),
    "no segments": (without_segments, "small: sex from reserve"),
    "unknown values": (cells(segment_columns("mfr")[:3], "NaN", slice(0, 9)), "small: sex"),
    "byte-order mark": (encodes(lambda text: text.encode("utf-8-sig")), "small: sex"),
    "Windows line ends": (encodes(lambda t: t.replace("\n", "\r\n").encode()), "small: sex"),
    # What would stop a run only, `check` foretells or does not mind.
    "small disk": (small_disk, "warning the disk is too small for the bank"),
    "second driver": (driven_already, "small: sex from reserve"),
}


@pytest.mark.parametrize("name", SOUND)
def test_check_accepts_what_is_sound(inputs, command, name) -> None:
    change, message = SOUND[name]
    change(inputs)
    study = inputs.write()
    with inputs.during:
        code, shown, told = command("check", study)
    assert (code, told) == (0, "")
    assert message in shown
    assert ("warning" in shown) == ("warning" in message)


def test_check_shows_what_looks_wrong(inputs, command) -> None:
    """One scan under two ids, exported again; and a name burned into a corner."""
    for row in (4, 8, 12, 16):
        shutil.copy(inputs.image(row), inputs.image(row + 1))
        again = Image.open(inputs.image(row + 1)).resize((64, 64), Image.Resampling.BILINEAR)
        again.save(inputs.image(row + 1))
    for row in range(20, 40):
        image = Image.open(inputs.image(row))
        image.paste((255, 255, 255), (0, 0, 1 + row % 3, 3))
        image.save(inputs.image(row))
    code, shown, _ = command("check", inputs.write())
    assert code == 0
    assert re.search(r"warning \d+ development patients? \(rows? .*nearly the same picture", shown)
    assert re.search(r"warning \d+ of 48 development images of 'reserve' .*differ .* disc", shown)
    assert not PATIENT.search(shown)
