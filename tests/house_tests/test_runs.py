"""A run directory: begun once, driven by one, never for bad input, never for another study."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from rich.console import Console

import polartune
from cohort.enrolment import enrol, record, relocate, reopen
from cohort.split import read_split, write_split
from polartune import commands, steps
from spaces.environment import describe_computing, hash_code
from spaces.errors import InputError, NoCompleteTrialError, RefusedError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.session import driving, is_driven
from spaces.study import Study, read_study
from spaces.trial_log import TrialLog, TrialRecord, read_trials, refuse_other_code


def small_study(table: Path) -> dict[str, dict[str, object]]:
    return {
        "name": "small",
        "cohort": {
            "path": str(table),
            "inputs": ["reserve"],
            "target": "impaired_any",
            "derive": {"impaired_any": {"below": 2.0}},
            "colour_scale": "fixed",
            "split": {"test": 12, "stratify": True},
        },
        "network": {"backbone": "efficientnet_lite0", "image_size": 32},
        "training": {"epochs": 3},
        "resources": {"slots": 2},
        "bank": {"path": "b"},
    }


@pytest.fixture
def study_file(phantom: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(small_study(phantom)))
    return path


def begin(study_file: Path, run: RunFiles) -> None:
    study = read_study(study_file)
    cohort = enrol(study, study_file.parent, run)
    with driving(run):
        record(run, study, study_file.parent, cohort)


def change(study_file: Path, **changes: object) -> None:
    content = yaml.safe_load(study_file.read_text())
    for dotted, value in changes.items():
        *sections, last = dotted.split(".")
        section = content
        for name in sections:
            section = section[name]
        section[last] = value
    study_file.write_text(yaml.safe_dump(content))


def test_a_run_keeps_study_split_and_environment(study_file: Path, tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    before = {p.name: p.read_bytes() for p in run.root.glob("*.*") if p.suffix != ".log"}
    assert set(before) >= {"study.yaml", "split.json", "environment.json"}
    begin(study_file, run)
    assert {p.name: p.read_bytes() for p in run.root.glob("*.*") if p.suffix != ".log"} == before
    environment = json.loads(run.environment.read_text())
    assert len(environment["sessions"]) == 1
    assert len(environment["sessions"][0]["code_sha256"]) == 64


def test_paths_are_relative_to_the_run(study_file: Path, phantom: Path, tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    path = Path(read_study(run.study).cohort.path)
    assert not path.is_absolute()
    assert (run.root / path).resolve() == phantom.resolve()


@pytest.mark.parametrize("to", ["runs/x", "deeper/runs/x", "."])
def test_relocated_paths_lead_to_the_same_files(tmp_path: Path, to: str) -> None:
    content = small_study(Path("../c/cohort.csv"))
    content["network"]["weights"] = {"file": "w/w.pth", "sha256": "0" * 64}
    study = Study.model_validate(content)
    folder, root = tmp_path / "studies", tmp_path / to
    moved = relocate(study, folder, root)
    for before, after in (
        (study.cohort.path, moved.cohort.path),
        (study.bank.path, moved.bank.path),
        (study.network.weights.file, moved.network.weights.file),
    ):
        assert (folder / before).resolve() == (root / after).resolve()


def test_another_study_is_refused_and_the_difference_named(
    study_file: Path, tmp_path: Path
) -> None:
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    change(study_file, **{"training.epochs": 4})
    with pytest.raises(RefusedError, match=r"training\.epochs \(3 -> 4\)"):
        begin(study_file, run)


def test_other_slots_may_continue_a_run(study_file: Path, tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    change(study_file, **{"resources.slots": 1, "resources.device": "cpu"})
    begin(study_file, run)
    continued = read_study(run.study)
    assert (continued.resources.slots, continued.resources.device) == (1, "cpu")


def test_a_run_continues_with_banks_in_another_folder(
    study_file: Path, tmp_path: Path, need: Callable[[str], object]
) -> None:
    """Where the disk was too small, say: what is not there is computed, what is there is found."""
    need("efficientnet_lite_pytorch")
    computed: list[int] = []

    def run_here(
        function: Callable[..., int], arguments: list[tuple[object, ...]], **_: object
    ) -> None:
        computed.append(len([function(*one) for one in arguments]))

    place = SimpleNamespace(
        is_own=True, device="cpu", run_on_slots=run_here, workplace=lambda _: None
    )
    change(study_file, space={"augmentation_strength": 0.0})
    for folder in ("b", "other", "b"):
        change(study_file, bank={"path": folder})
        with steps.begun(study_file, tmp_path / "runs") as (run, _):
            steps.fill_bank(run, place, Console(quiet=True))
    assert computed == [1, 1]
    first, second = (study_file.parent / folder for folder in ("b", "other"))
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}


def test_a_changed_cohort_is_refused(study_file: Path, tmp_path: Path, phantom: Path) -> None:
    table = shutil.copytree(phantom.parent, tmp_path / "copy") / phantom.name
    change(study_file, **{"cohort.path": str(table)})
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    reopen(run)
    table.write_text(table.read_text() + "\n")
    with pytest.raises(RefusedError, match="the cohort table changed since the run began"):
        reopen(run)


def test_another_split_is_refused(study_file: Path, tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    split = read_split(run.split)
    write_split(run.split, dataclasses.replace(split, folds=np.roll(split.folds, 1)))
    with pytest.raises(RefusedError, match="the split changed since the run began"):
        reopen(run)


def test_a_replaced_development_image_is_refused(
    study_file: Path, tmp_path: Path, phantom: Path
) -> None:
    table = shutil.copytree(phantom.parent, tmp_path / "copy") / phantom.name
    change(study_file, **{"cohort.path": str(table)})
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    image = reopen(run).development.images["reserve"][0]
    whole = image.read_bytes()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(image)
    with pytest.raises(RefusedError, match="an image of a development patient changed since"):
        reopen(run)
    image.write_bytes(whole)
    reopen(run)


def test_other_code_or_libraries_do_not_continue_a_search(tmp_path: Path) -> None:
    TrialLog(tmp_path / "trials.jsonl")
    TrialLog(tmp_path / "trials.jsonl")
    for name, told in (
        ("polartune's code", "polartune's code changed"),
        ("torch", r"torch \(1.0 ->"),
    ):
        begun = {**describe_computing(), name: "1.0" if name == "torch" else "0" * 64}
        line = json.dumps({"format": "polartune/trials/1", "computed_by": begun}) + "\n"
        (tmp_path / "trials.jsonl").write_text(line)
        with pytest.raises(RefusedError, match=told):
            TrialLog(tmp_path / "trials.jsonl")
        assert (tmp_path / "trials.jsonl").read_text() == line


@pytest.mark.parametrize("step", [steps.search, steps.retrain])
def test_other_code_neither_fills_a_bank_nor_trains(
    tmp_path: Path, step: Callable[..., None]
) -> None:
    run = RunFiles(tmp_path)
    begun = {**describe_computing(), "numpy": "1.0"}
    run.trials.write_text(json.dumps({"format": "polartune/trials/1", "computed_by": begun}) + "\n")
    with pytest.raises(RefusedError, match=r"numpy \(1.0 -> .*begin a run of another name"):
        step(run, None, Console())


def test_the_digest_of_the_code_is_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "search").mkdir()
    file = tmp_path / "search" / "trial.py"
    monkeypatch.setattr("spaces.environment.package_folder", lambda name: tmp_path / name)
    file.write_text("epochs = 1\n")
    before = hash_code(["search"])
    file.write_text("epochs = 2\n")
    assert hash_code(["search"]) != before


def test_a_damaged_first_line_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text("{\n")
    refuse_other_code(tmp_path / "trials.jsonl")
    with pytest.raises(RefusedError, match=r"trials\.jsonl:1: a damaged line"):
        read_trials(tmp_path / "trials.jsonl")


def test_other_code_may_look_at_a_run_and_is_logged(study_file: Path, tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    content = json.loads(run.environment.read_text())
    content["sessions"][0]["code_sha256"] = "0" * 64
    run.environment.write_text(json.dumps(content))
    with steps.continued(run.root):
        pass
    assert "continued with another environment: code_sha256" in run.log.read_text()
    assert len(json.loads(run.environment.read_text())["sessions"]) == 2


def test_a_run_continues_with_the_patience_of_the_study_file(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(study_file, RunFiles(tmp_path / "runs" / "small"))
    change(study_file, search={"stalled_after": 7200.0})
    seen: list[float] = []

    def search(_run: object, _place: object, _console: object, stalled_after: float) -> None:
        seen.append(stalled_after)
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "search", search)
    monkeypatch.setattr(steps, "placed", lambda *_: nullcontext())
    with pytest.raises(KeyboardInterrupt):
        polartune.run(study_file, out=tmp_path / "runs")
    assert seen == [7200.0]


def test_a_search_without_a_complete_trial_says_why(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, configuration = RunFiles(tmp_path / "runs" / "small"), Configuration(0.5, 1e-3, 1e-2, 0.0)
    begin(study_file, run)
    log = TrialLog(run.trials)
    log.asked(0, configuration, "default")
    log.ended(TrialRecord(0, configuration, "default", state="failed", reason="memory ran out"))
    monkeypatch.setattr(commands, "resumed", lambda *_: nullcontext())
    monkeypatch.setattr(commands, "search", lambda *_: SimpleNamespace(complete=0, failed=1))
    told = r"none of 1 trials is complete \(0: memory ran out\)"
    with pytest.raises(NoCompleteTrialError, match=told):
        commands.search_command(run.root)


def test_a_second_driver_is_refused(study_file: Path, tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "runs" / "small")
    begin(study_file, run)
    assert not is_driven(run)
    with FileLock(run.lock):
        assert is_driven(run)
        with pytest.raises(RefusedError, match="another polartune works on this run"):
            begin(study_file, run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.epochs": 0}, r"training\.epochs"),
        ({"cohort.target": "absent"}, "absent"),
        ({"cohort.path": "nowhere.csv"}, "cohort"),
        ({"network.weights": {"file": "absent.pth", "sha256": "0" * 64}}, "no such file"),
    ],
)
def test_bad_input_leaves_no_run_directory(
    study_file: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    change(study_file, **changes)
    with pytest.raises(InputError, match=message):
        polartune.run(study_file, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "look",
    [
        commands.status_command,
        commands.search_command,
        lambda folder: commands.compare_command([folder, folder.parent]),
    ],
)
def test_a_folder_with_a_study_of_its_own_is_no_run(
    study_file: Path, look: Callable[[Path], None]
) -> None:
    told = r"is no run directory\. It holds a study: polartune run .*study\.yaml"
    with pytest.raises(InputError, match=told):
        look(study_file.parent)


def test_steps_of_what_is_no_run_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run directory"):
        commands.select_command(tmp_path)


def test_bank_and_models_are_made_on_no_node_that_is_unfit_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every piece comes with what its process must open first."""
    from search.place import Place
    from trainable.bank import Part

    given: list[tuple[str, str]] = []

    class NotingPlace(Place):
        def run_on_slots(self, function, arguments, *, workplace=None, progress=None):
            given.append((function.__name__, workplace.run_root))
            return [[Part(0, 0.0, 0, 1)]]

    def retrain_here(run: RunFiles, run_on_slots: Callable[..., object], device: str) -> None:
        run_on_slots(print, [(run.root, device)])

    monkeypatch.setattr("analysis.choose.select.select", lambda _: None)
    monkeypatch.setattr("analysis.choose.retrain.retrain", retrain_here)
    run, place, silent = RunFiles(tmp_path), NotingPlace(1, "cpu", 1, 0.0), Console(quiet=True)
    steps.fill_bank(run, place, silent)
    steps.retrain(run, place, silent)
    assert given == [(name, str(tmp_path)) for name in ("missing_parts", "fill_part", "print")]
