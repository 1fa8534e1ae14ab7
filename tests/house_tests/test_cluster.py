"""cluster.yaml is valid for Ray, and keeps what makes it safe and cheap."""

import copy
import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray.autoscaler", reason="needs the extra `cluster`")
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def written() -> dict:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@pytest.fixture
def prepared(written: dict) -> dict:
    return prepare_config(written)


def test_ray_accepts_it(prepared: dict) -> None:
    validate_config(prepared)


MUTATIONS = {
    "a misspelt key": lambda c: c.update(worker_nodez=1),
    "no provider": lambda c: c.pop("provider"),
    "a head type that does not exist": lambda c: c.update(head_node_type="nobody"),
    "half a CPU": lambda c: c["available_node_types"]["gpu_worker"]["resources"].update(CPU=0.5),
    "text as a number": lambda c: c.update(max_workers="eight"),
    "more workers needed than allowed": lambda c: c["available_node_types"]["gpu_worker"].update(
        min_workers=9
    ),
    "a docker image without a container name": lambda c: c["docker"].pop("container_name"),
    "start commands that are no list": lambda c: c.update(head_start_ray_commands="ray start"),
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS)
def test_ray_rejects_mistakes(written: dict, mutate: object) -> None:
    broken = copy.deepcopy(written)
    mutate(broken)
    with pytest.raises(Exception) as refused:  # noqa: PT011  jsonschema's, ValueError or KeyError
        validate_config(prepare_config(broken))
    assert refused.value is not None


def test_head_computes_nothing_and_workers_are_spot(prepared: dict) -> None:
    types = prepared["available_node_types"]
    head, worker = types[prepared["head_node_type"]], types["gpu_worker"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert worker["min_workers"] == 0
    assert worker["resources"]["GPU"] == 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert 5 <= prepared["idle_timeout_minutes"] <= 10


def test_every_node_asks_for_the_token_and_nothing_listens_outside(prepared: dict) -> None:
    for who in ("head", "worker"):
        [start] = [c for c in prepared[f"{who}_start_ray_commands"] if "ray start" in c]
        assert start.startswith("RAY_AUTH_MODE=token ")
    assert "0.0.0.0" not in FILE.read_text(encoding="utf-8")  # noqa: S104
    assert "--dashboard-host=127.0.0.1" in " ".join(prepared["head_start_ray_commands"])


def test_rays_own_defaults_are_replaced(prepared: dict) -> None:
    commands = [
        command for key, value in prepared.items() if key.endswith("commands") for command in value
    ]
    assert not [command for command in commands if "nightly" in command or "latest" in command]
    assert "--force" not in " ".join(commands)


def test_versions_are_pinned_and_the_same(prepared: dict) -> None:
    images = [prepared["docker"]["head_image"], prepared["docker"]["worker_image"]]
    pins = [re.search(r":(\d+\.\d+\.\d+)-py311", image)[1] for image in images]
    pins += re.findall(r"ray\[tune\]==([\d.]+)", " ".join(prepared["setup_commands"]))
    assert len(pins) == 3
    assert len(set(pins)) == 1
    # Below 2.56 Ray has known vulnerabilities.
    assert tuple(map(int, pins[0].split("."))) >= (2, 56, 0)


def test_the_patient_key_is_never_sent(prepared: dict) -> None:
    assert "**/*.key" in prepared["rsync_exclude"]
    assert ".gitignore" in prepared["rsync_filter"]
    ignored = (FILE.parent / ".gitignore").read_text(encoding="utf-8").split()
    assert {"cohorts/", "runs/", ".venv/"} <= set(ignored)
