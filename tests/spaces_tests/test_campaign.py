"""A campaign file becomes studies, in the order of their transfer."""

from pathlib import Path

import pytest
import yaml

from spaces.campaign import is_campaign, read_campaign
from spaces.errors import InputError
from spaces.study import read_study

CAMPAIGN = {
    "format": "polartune/campaign/1",
    "name": "all",
    "inputs": {"rest": ["rest"], "stack": ["rest", "reserve"]},
    "targets": ["impaired_any", "impaired_LAD"],
    "transfer": {"from": "impaired_any", "targets": ["sex"]},
    "study": {
        "seed": 3,
        "cohort": {
            "path": "cohort.csv",
            "derive": {
                "impaired_any": {"below": 2.0},
                "impaired_LAD": {"below": 2.0, "segments": "LAD"},
            },
            "colour_scale": "fixed",
        },
        "training": {"epochs": 7},
    },
}


TWIN = "impaired_any-reserve"


def write(folder: Path, **changes: object) -> Path:
    path = folder / "studies" / "campaign.yaml"
    path.parent.mkdir(exist_ok=True)
    content = {name: value for name, value in (CAMPAIGN | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def changed(**cohort: object) -> dict[str, object]:
    study = CAMPAIGN["study"]
    return {**study, "cohort": {**study["cohort"], **cohort}}


def test_every_target_meets_every_input_once_and_first_steps_come_first(tmp_path: Path) -> None:
    plan = read_campaign(write(tmp_path), tmp_path / "runs")
    assert [(member.target, member.input, member.follows) for member in plan.members] == [
        ("impaired_any", "rest", None),
        ("impaired_any", "stack", None),
        ("impaired_LAD", "rest", None),
        ("impaired_LAD", "stack", None),
        ("sex", "rest", "impaired_any-rest"),
        ("sex", "stack", "impaired_any-stack"),
    ]
    assert plan.targets == ["impaired_any", "impaired_LAD", "sex"]


def test_a_study_is_the_shared_one_with_its_own_target_input_and_first_step(tmp_path: Path) -> None:
    plan = read_campaign(write(tmp_path), tmp_path / "runs")
    study = plan.members[-1].study
    assert (study.name, study.seed, study.training.epochs) == ("sex-stack", 3, 7)
    assert study.cohort.inputs == ["rest", "reserve"]
    assert study.cohort.target == "sex"
    first = plan.folder / study.transfer.run
    assert first.resolve() == (tmp_path / "runs" / "all" / "impaired_any-stack").resolve()
    assert plan.members[0].study.transfer is None


def test_the_second_step_starts_from_the_first_target_if_none_is_named(tmp_path: Path) -> None:
    plan = read_campaign(write(tmp_path, transfer={"targets": ["sex"]}), tmp_path / "runs")
    assert plan.campaign.starts_from == "impaired_any"
    assert {member.follows for member in plan.members if member.target == "sex"} == {
        "impaired_any-rest",
        "impaired_any-stack",
    }


def test_the_second_step_may_train_other_layers(tmp_path: Path) -> None:
    second = {"targets": ["sex"], "trainable_layers": 1}
    plan = read_campaign(write(tmp_path, transfer=second), tmp_path / "runs")
    layers = {member.target: member.study.network.trainable_layers for member in plan.members}
    assert layers == {"impaired_any": 3, "impaired_LAD": 3, "sex": 1}
    network = plan.members[0].study.network
    assert network.trains_deeper_than(plan.members[-1].study.network)
    assert not network.trains_deeper_than(network)
    everything = network.model_copy(update={"trainable_layers": "all"})
    assert everything.trains_deeper_than(network)
    assert not network.trains_deeper_than(everything)


def test_without_a_second_step_nothing_is_transferred(tmp_path: Path) -> None:
    plan = read_campaign(write(tmp_path, transfer=None), tmp_path / "runs")
    assert len(plan.members) == 4
    assert {member.study.transfer for member in plan.members} == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["sex", "sex"]}, "every target must stand once"),
        ({"transfer": {"from": "sex", "targets": ["age"]}}, "transfer.from must be one of targets"),
        ({"inptus": {}}, r"campaign\.yaml:\d+ inptus: unknown key\. Did you mean 'inputs'\?"),
        ({"study": {}}, r"campaign\.yaml:\d+ study\.cohort\.path: this key is required"),
        ({"study": {"name": "x"}}, r"study\.name: does not belong into a campaign"),
        ({"study": changed(target="age")}, r"study\.cohort\.target: does not belong into a camp"),
        ({"study": changed(inputs=["rest"])}, r"study\.cohort\.inputs: does not belong into a"),
        ({"study": {"cohrot": {}}}, r"campaign\.yaml:\d+ study\.cohrot: unknown key.*'cohort'"),
        ({"study": changed(split={"stratify": True})}, r"stratify: must be false in a campaign"),
        ({"format": "polartune/campaign/2"}, "format must be polartune/campaign/1"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_campaign(write(tmp_path, **changes), tmp_path / "runs")


def test_a_wrong_value_of_the_shared_study_names_its_line(tmp_path: Path) -> None:
    study = {**CAMPAIGN["study"], "training": {"epochs": 0}}
    path = write(tmp_path, study=study)
    line = 1 + path.read_text().splitlines().index("    epochs: 0")
    with pytest.raises(InputError, match=rf"campaign\.yaml:{line} study\.training\.epochs"):
        read_campaign(path, tmp_path)


def test_a_campaign_is_told_from_a_study_by_its_format_or_targets(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert is_campaign(path)
    with pytest.raises(InputError, match="format must be polartune/study/1"):
        read_study(path)
    path.write_text(path.read_text().replace("polartune/campaign/1", "'polartune/campaign/1'"))
    assert is_campaign(path)
    assert is_campaign(write(tmp_path, format=None))
    read_campaign(write(tmp_path, format=None), tmp_path)
    other = tmp_path / "study.yaml"
    for text in ("name: x\n", "format: polartune/study/1\ntargets: [x]\n", "targets: [\n", "[]\n"):
        other.write_text(text)
        assert not is_campaign(other)
    assert not is_campaign(tmp_path / "absent.yaml")


@pytest.mark.parametrize("name", ["campaign_phantom", "paper_campaign"])
def test_the_campaigns_in_studies_are_the_papers_programme(name: str) -> None:
    plan = read_campaign(Path(__file__).parents[2] / "studies" / f"{name}.yaml", Path())
    assert plan.campaign.name == name.replace("_", "-")
    assert len(plan.members) == 36
    assert len(plan.targets) == 9
    assert {len(member.study.cohort.inputs) for member in plan.members} == {1, 3}
    assert {member.study.cohort.split.test for member in plan.members} == {93}


def test_the_papers_campaign_is_its_study_for_every_target_and_input() -> None:
    folder = Path(__file__).parents[2] / "studies"
    study = read_study(folder / "paper.yaml")
    plan = read_campaign(folder / "paper_campaign.yaml", Path())
    [twin] = [member.study for member in plan.members if member.study.name == TWIN]
    derive = twin.cohort.derive
    assert {name: derive[name] for name in study.cohort.derive} == study.cohort.derive
    cohort = twin.cohort.model_copy(update={"derive": study.cohort.derive})
    assert twin.model_copy(update={"name": study.name, "cohort": cohort}) == study
