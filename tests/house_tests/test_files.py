"""The files around the code: studies, Makefile, README, and what no file may contain."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from patience import PATIENCE

from polartune.commands import app
from search.clusters.ray_commands import simple_commands
from spaces.campaign import Campaign, is_campaign
from spaces.study import Study, read_study

HOME = Path(__file__).parents[2]
FILES = sorted((HOME / "studies").glob("*.yaml"))
STUDIES = [path for path in FILES if not is_campaign(path)]
README = (HOME / "README.md").read_text(encoding="utf-8")
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)


def content(name: str) -> dict:
    return yaml.safe_load((HOME / "studies" / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_every_study_is_valid_and_named_after_its_file(path: Path) -> None:
    assert read_study(path).name == path.stem


def test_the_demo_is_the_study_that_the_readme_promises() -> None:
    study = read_study(HOME / "studies" / "demo.yaml")
    assert study.search.trials >= 12
    assert study.training.epochs <= 10
    assert study.search.scheduler == "asha"
    assert study.network.backbone == "efficientnet_lite0"
    assert study.network.weights == "imagenet"
    assert (study.cohort.target, study.cohort.split.test) == ("impaired_any", 93)


def test_the_paper_study_is_the_papers() -> None:
    study = read_study(HOME / "studies" / "paper.yaml")
    assert study.network.backbone == "resnet50"
    assert study.network.trainable_layers == 3
    assert study.cohort.split.test == 93
    assert study.cohort.split.folds == 5
    assert study.evaluation.bootstraps == 4000
    assert (study.augmentation.rotation, study.augmentation.rescaling) == (10.0, 0.1)


@pytest.mark.parametrize("split", ["spectf", "spectf_uci"])
@pytest.mark.parametrize("maps", ["_rest", "_both"])
def test_spectf_studies_differ_in_their_maps_alone(split: str, maps: str) -> None:
    first, second = content(split), content(split + maps)
    assert first["cohort"].pop("inputs") != second["cohort"].pop("inputs")
    del first["name"], second["name"]
    assert first == second


def test_the_uci_studies_differ_in_their_split_alone() -> None:
    first, second = content("spectf"), content("spectf_uci")
    assert first["cohort"].pop("split")["test"] == 0.3
    assert second["cohort"].pop("split")["column"] == "uci_split"
    del first["name"], second["name"]
    assert first == second


def targets() -> set[str]:
    makefile = (HOME / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def commands_of(text: str) -> list[str]:
    """Every command line in the shell blocks of a Markdown text."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def test_make_targets_of_readme_and_contributing_exist() -> None:
    text = README + (HOME / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)`", text))
    named |= {line.split()[1] for line in commands_of(text) if line.startswith("make ")}
    assert {"demo", "test"} <= named <= targets()


def test_polartune_commands_of_the_pages_parse() -> None:
    command = typer.main.get_command(app)
    lines = [line for line in commands_of(TEXT) if line.startswith("polartune ")]
    assert len(lines) >= 20
    for line in lines:
        name, *words = line.split()[1:]
        child = command.commands[name]
        if hasattr(child, "commands"):
            child, words = child.commands[words[0]], words[1:]
        child.make_context(name, words)


def test_ray_commands_of_the_pages_parse() -> None:
    """By Ray's own parser; what runs on the cluster, by ours."""
    cli = pytest.importorskip("ray.scripts.scripts", reason="needs the extra `cluster`").cli
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [words for words in simple_commands("\n".join(blocks)) if words[0] == "ray"]
    assert len(lines) >= 8
    ours = []
    for _, name, *words in lines:
        cli.commands[name].make_context(name, list(words))
        ours += [word for word in words if "polartune " in word]
    assert len(ours) >= 3
    for name, *words in (
        inner[inner.index("polartune") + 1 :]
        for word in ours
        for inner in simple_commands(word)
        if "polartune" in inner
    ):
        typer.main.get_command(app).commands[name].make_context(name, words)


def test_every_command_stands_in_the_readme() -> None:
    for name, child in typer.main.get_command(app).commands.items():
        names = [f"{name} {part}" for part in getattr(child, "commands", [])] or [name]
        for full in names:
            assert f"`polartune {full}" in README, full


def test_study_files_of_the_pages_exist() -> None:
    for name in re.findall(r"studies/(\w+\.yaml)", TEXT):
        assert (HOME / "studies" / name).is_file(), name


def find_python(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(HOME / ".ci" / "find-python")],
        cwd=folder,
        env={"PATH": str(folder / "bin"), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A computer with awk, df and basename, 50 GB free, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("awk", "basename"):
        (folder / name).symlink_to(shutil.which(name))
    install(tmp_path, "df", "printf 'head\\n/dev/x 1 1 52428800 1% /\\n'")
    return tmp_path


def install(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_python_the_check_says_how_to_get_one(machine: Path) -> None:
    result = find_python(machine)
    assert result.returncode == 2
    assert "no Python 3.11, 3.12 or 3.13 found. Install one" in result.stderr
    assert result.stdout == ""


def test_an_old_python_is_passed_over(machine: Path) -> None:
    install(machine, "python3", "exit 1")
    install(machine, "python3.12", "exit 0")
    result = find_python(machine)
    assert (result.returncode, result.stdout) == (0, "python3.12\n")


def test_without_ensurepip_the_check_names_the_package(machine: Path) -> None:
    install(machine, "python3.12", 'case "$2" in *ensurepip*) exit 1;; esac')
    result = find_python(machine)
    assert result.returncode == 2
    assert "sudo apt install python3.12-venv" in result.stderr


def test_a_full_disk_is_named_with_the_need(machine: Path) -> None:
    install(machine, "python3.11", "exit 0")
    install(machine, "df", "printf 'head\\n/dev/x 1 1 1048576 1% /\\n'")
    result = find_python(machine)
    assert result.returncode == 2
    assert "only 1 GB are free here, and installing takes about 8 GB" in result.stderr


def test_a_given_python_must_suit(machine: Path) -> None:
    result = find_python(machine, PYTHON="/bin/false")
    assert result.returncode == 2
    assert "PYTHON=/bin/false does not run or is not 3.11" in result.stderr


def test_pre_commit_fetches_nothing() -> None:
    hooks = yaml.safe_load((HOME / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]


def ours() -> list[Path]:
    skipped = {".venv", ".git", ".hypothesis", "runs", "cohorts", "__pycache__"}
    endings = {".py", ".md", ".yaml", ".toml", ".html", ".css", ".json", ""}
    found = []
    for folder, folders, names in os.walk(HOME):
        kept = (name for name in folders if not name.endswith(("_cache", "-info")))
        folders[:] = [name for name in kept if name not in skipped]
        found += [Path(folder) / name for name in names if Path(name).suffix in endings]
    return found


def test_no_file_names_somebodys_computer() -> None:
    here = Path(__file__)
    pattern = re.compile(r"/work/|/root/|/Users/|/home/(?!ray/)|/tmp/\w")
    found = [
        f"{path.relative_to(HOME)}: {match.group()}"
        for path in ours()
        if path != here
        for match in [pattern.search(path.read_text(encoding="utf-8", errors="ignore"))]
        if match
    ]
    assert found == []


def test_the_license_is_apache_2() -> None:
    text = (HOME / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_study_and_campaign_of_the_pages_are_valid() -> None:
    page = (HOME / "docs" / "campaign.md").read_text(encoding="utf-8")
    study, campaign = (
        yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
        for text in (README, page)
    )
    assert Study.model_validate(study).cohort.target == "impaired_any"
    assert Campaign.model_validate(campaign | {"study": {}}).transfer.from_ == "impaired_any"


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in found}


@pytest.mark.parametrize("page", PAGES, ids=[path.stem for path in PAGES])
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.is_file(), link
        assert not anchor or anchor in headings(target), link


def test_the_golden_file_is_json() -> None:
    assert json.loads((HOME / "tests/house_tests/command_line.json").read_text(encoding="utf-8"))
