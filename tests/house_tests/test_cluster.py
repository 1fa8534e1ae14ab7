"""The cluster files are valid for Ray, and keep what makes them safe and cheap."""

import copy
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from patience import PATIENCE
from typer.testing import CliRunner

from polartune.commands import app
from spaces import errors

pytest.importorskip("ray.autoscaler", reason="needs the extra `cluster`")
from search.clusters.check import check_cluster
from search.clusters.ray_up import prepare

HOME = Path(__file__).parents[2]
FILE = HOME / "cluster.yaml"
ON_PREMISE = HOME / "clusters" / "on_premise.yaml"
KUBERAY = HOME / "clusters" / "kuberay.yaml"
SLURM = HOME / "clusters" / "slurm.sh"
FILES = {FILE: "ray up", ON_PREMISE: "ray up", KUBERAY: "KubeRay", SLURM: "SLURM"}


def filled_in(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("REPLACE_ME", "ours")


def findings(text: str, path: Path, folder: Path) -> list[str]:
    written = folder / path.name
    written.write_text(text, encoding="utf-8")
    return [str(finding) for finding in check_cluster(written)[1]]


@pytest.fixture
def written() -> dict:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@pytest.fixture
def prepared(written: dict) -> dict:
    return prepare(written)


@pytest.mark.parametrize(("path", "kind"), FILES.items(), ids=[path.name for path in FILES])
def test_a_shipped_file_waits_for_nothing_but_your_own_names(
    path: Path, kind: str, tmp_path: Path
) -> None:
    found_kind, found = check_cluster(path)
    assert found_kind == kind
    assert {finding.problem for finding in found} <= {"REPLACE_ME stands here still"}
    assert findings(filled_in(path), path, tmp_path) == []


RAY_REFUSES = {
    "a misspelt key": lambda c: c.update(worker_nodez=1),
    "no provider type": lambda c: c["provider"].pop("type"),
    "a head type that does not exist": lambda c: c.update(head_node_type="nobody"),
    "half a CPU": lambda c: c["available_node_types"]["gpu_worker"]["resources"].update(CPU=0.5),
    "text as a number": lambda c: c.update(max_workers="eight"),
    "more workers needed than allowed": lambda c: c["available_node_types"]["gpu_worker"].update(
        min_workers=9
    ),
    "a docker image without a container name": lambda c: c["docker"].pop("container_name"),
    "start commands that are no list": lambda c: c.update(head_start_ray_commands="ray start"),
}


@pytest.mark.parametrize("mutate", RAY_REFUSES.values(), ids=RAY_REFUSES)
def test_what_ray_refuses_is_found(written: dict, mutate: object, tmp_path: Path) -> None:
    broken = copy.deepcopy(written)
    mutate(broken)
    text = yaml.safe_dump(broken).replace("REPLACE_ME", "ours")
    [found] = findings(text, FILE, tmp_path)
    assert found.startswith("the file: Ray refuses it (")


# File, text in it, what an edit makes of it, what must be said.
MISTAKES = {
    "an open dashboard": (FILE, "host=127.0.0.1", "host=0.0.0.0", "dashboard must listen on"),
    "a token mode that the head lacks": (
        FILE,
        "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray start --head",
        "ray start --head",
        "head_start_ray_commands: RAY_AUTH_MODE=token must stand before",
    ),
    "a token mode that the workers lack": (
        FILE,
        "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray start --address",
        "ray start --address",
        "worker_start_ray_commands: RAY_AUTH_MODE=token must stand before",
    ),
    "a misspelt option": (FILE, "--object-manager-port", "--object-manger-port", "No such option"),
    "an image that moves": (FILE, "ray:2.60.0-py311-gpu", "ray:latest-gpu", "docker.worker_image"),
    "an image without a tag": (FILE, "ray:2.60.0-py311\n", "ray\n", "docker.head_image"),
    "a nightly wheel": (FILE, "'ray[tune]==2.60.0'", "ray-nightly.whl", "a nightly build"),
    "a Ray in any version": (
        FILE,
        "'ray[tune]==2.60.0'",
        "'ray[tune]'",
        "installed in any version",
    ),
    "two versions of Ray": (FILE, "ray[tune]==2.60.0", "ray[tune]==2.59.0", "2.59.0 and 2.60.0"),
    "an old Ray": (FILE, "2.60.0", "2.51.0", "Ray must be 2.56 or later, got 2.51.0"),
    "a security group by Ray": (
        FILE,
        "      SecurityGroupIds: [sg-ours]\n",
        "",
        "the group that Ray makes admits SSH",
    ),
    "a world-open rule": (
        FILE,
        "  cache_stopped_nodes: false",
        "  security_group: {IpPermissions: [{IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
        "a rule admits the whole internet",
    ),
    "credentials that are copied": (
        FILE,
        "  /home/ray/polartune: .\n",
        "  /home/ray/polartune: .\n  /home/ray/.aws: ~/.aws\n",
        "~/.aws would be copied to every node",
    ),
    "patient keys that are sent": (FILE, ', "**/*.key"', "", "patient keys must not be sent"),
    "other people's processes": (FILE, "  - ray stop\n", "  - ray stop -f\n", "ray stop --force"),
    "a secret": (
        FILE,
        "RAY_AUTH_MODE=token",
        "RAY_AUTH_TOKEN=ab12cd34ef",
        "a secret in plain text",
    ),
    "an access key": (FILE, "ssh_user: ubuntu", "ssh_user: AKIAABCDEFGHIJKLMNOP", "AWS access key"),
    "a key in a comment": (
        FILE,
        "# A polartune",
        "# -----BEGIN RSA PRIVATE KEY-----",
        "a private key",
    ),
    "on premise, an open dashboard": (
        ON_PREMISE,
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104
        "must listen on 127.0.0.1",
    ),
    "on premise, no hosts": (ON_PREMISE, "  head_ip", "  head", "Ray refuses it (Please supply"),
    "KubeRay, no token": (
        KUBERAY,
        "mode: token",
        "mode: disabled",
        "authOptions.mode must be token",
    ),
    "KubeRay, a misspelt key": (
        KUBERAY,
        "maxReplicas",
        "maxReplica",
        "Did you mean 'maxReplicas'?",
    ),
    "KubeRay, a misspelt option": (KUBERAY, "num-cpus", "num-cpu", "No such option"),
    "KubeRay, an open service": (KUBERAY, "ClusterIP", "LoadBalancer", "open to networks outside"),
    "KubeRay, no policy": (KUBERAY, "kind: NetworkPolicy", "kind: Other", "no NetworkPolicy"),
    "KubeRay, a policy for all": (
        KUBERAY,
        "  ingress:\n",
        "  ingress:\n    - {}\n",
        "no NetworkPolicy",
    ),
    "KubeRay, a policy for every pod of the namespace": (
        KUBERAY,
        "        - podSelector:\n            matchLabels: {app.kubernetes.io/name: polartune}\n",
        "        - podSelector: {}\n",
        "no NetworkPolicy",
    ),
    "KubeRay, a policy for every namespace": (
        KUBERAY,
        "        - podSelector:\n            matchLabels: {app.kubernetes.io/name: polartune}\n",
        "        - namespaceSelector: {}\n",
        "no NetworkPolicy",
    ),
    "KubeRay, a policy that undoes the other": (
        KUBERAY,
        "---\n",
        "---\nkind: NetworkPolicy\nspec: {podSelector: {}, ingress: [{}]}\n---\n",
        "no NetworkPolicy",
    ),
    "KubeRay, an image that moves": (KUBERAY, "polartune:0.1.0", "polartune:latest", "pinned"),
    "KubeRay, a value in the file": (
        KUBERAY,
        'RAY_USAGE_STATS_ENABLED, value: "0"',
        "RAY_AUTH_TOKEN, value: abcdef",
        "RAY_AUTH_TOKEN has its value in the file",
    ),
    "KubeRay, root": (KUBERAY, "allowPrivilegeEscalation: false", "privileged: true", "Escalation"),
    "KubeRay, a cluster for ever": (KUBERAY, "shutdownAfterJobFinishes: true", "", "costing money"),
    "SLURM, no token": (SLURM, "export RAY_AUTH_MODE=token", "", "export RAY_AUTH_MODE=token is"),
    "SLURM, a token in a comment": (
        SLURM,
        "export RAY_AUTH_MODE=token",
        "# export RAY_AUTH_MODE=token",
        "export RAY_AUTH_MODE=token is missing before it",
    ),
    "SLURM, a token too late": (
        SLURM,
        "export RAY_AUTH_MODE=token\nexport RAY_USAGE",
        'trap "export RAY_AUTH_MODE=token" EXIT\nexport RAY_USAGE',
        "export RAY_AUTH_MODE=token is missing before it",
    ),
    "SLURM, a Ray of its own": (
        SLURM,
        "status=0\n",
        'status=0\nsrun bash -c "ray start --head --dashboard-host=0.0.0.0"\n',
        "the script: the dashboard must listen on 127.0.0.1, got 0.0.0.0",
    ),
    "SLURM, other people's processes": (SLURM, "status=0\n", "srun ray stop -f\n", "ray stop --f"),
    "SLURM, an open dashboard": (
        SLURM,
        "--temp-dir",
        "--dashboard-host 0.0.0.0 --temp-dir",
        "must listen on 127.0.0.1, got 0.0.0.0",
    ),
    "SLURM, an option of the head": (SLURM, "--temp-dir", "--head --temp-dir", "--head cannot be"),
    "SLURM, a misspelt option": (SLURM, "--temp-dir", "--tmp-dir", "No such option"),
    "SLURM, no separator": (SLURM, "    -- polartune", "    polartune", "-- must stand between"),
    "SLURM, shared nodes": (SLURM, "#SBATCH --exclusive\n", "", "--exclusive is missing"),
    "SLURM, two Rays a node": (
        SLURM,
        "per-node=1\n#SBATCH --ex",
        "per-node=2\n#SBATCH --ex",
        "one Ray",
    ),
    "SLURM, an unclosed quote": (SLURM, '"$head:6379"', '"$head:6379', "no valid shell"),
}


@pytest.mark.parametrize(("path", "before", "after", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_and_named(
    path: Path, before: str, after: str, said: str, tmp_path: Path
) -> None:
    text = filled_in(path)
    assert before in text
    assert said in "\n".join(findings(text.replace(before, after), path, tmp_path))


OPEN = "ray start --head --dashboard-host=0.0.0.0"
MISSING = "RAY_AUTH_MODE=token must stand before"
# What starts the head, and what must be said of it.
STARTS = {
    "in a second line": (["ray stop\n" + OPEN], "must listen on 127.0.0.1, got 0.0.0.0"),
    "in a line that goes on": (["ray stop; \\\n  " + OPEN], "must listen on 127.0.0.1"),
    "without a terminal": ([f"nohup {OPEN} > log 2>&1 &"], "must listen on 127.0.0.1"),
    "by env": ([f"env A=b {OPEN}"], MISSING),
    "by its path": ([f"RAY_AUTH_MODE=token /opt/bin/{OPEN}"], "must listen on 127.0.0.1"),
    "by another shell": ([f"RAY_AUTH_MODE=token bash -lc '{OPEN}'"], "must listen on 127.0.0.1"),
    "as another user, who loses it": (
        ["RAY_AUTH_MODE=token sudo -u ray ray start --head"],
        MISSING,
    ),
    "in a shell that ended": (["export RAY_AUTH_MODE=token", "ray start --head"], MISSING),
    "after the token was said in a comment": (
        ["true # export RAY_AUTH_MODE=token\nray start --head"],
        MISSING,
    ),
    "with an open quote": ([f'RAY_AUTH_MODE=token "{OPEN}'], "a quote is not closed"),
    "by a name that nobody can read": (["$RAY start --head"], "got 0 that can be read"),
    "twice": (["RAY_AUTH_MODE=token ray start --head"] * 2, "got 2 that can be read"),
    "not at all": (["ray stop"], "exactly one ray start must stand here, got 0"),
}


@pytest.mark.parametrize(("commands", "said"), STARTS.values(), ids=STARTS)
def test_a_start_is_read_however_it_is_written(
    commands: list[str], said: str, written: dict, tmp_path: Path
) -> None:
    written["head_start_ray_commands"] = commands
    text = yaml.safe_dump(written).replace("REPLACE_ME", "ours")
    assert said in "\n".join(findings(text, FILE, tmp_path))


@pytest.mark.parametrize(
    "command",
    [
        "ray stop\nexport RAY_AUTH_MODE=token\nray start --head  # it's here",
        "env RAY_AUTH_MODE=token nohup ray start --head > /var/log/ray 2>&1 &",
        "RAY_AUTH_MODE=token bash -c 'ulimit -n 65536; ray start --head'",
        "sudo -u ray RAY_AUTH_MODE=token /opt/bin/ray start --head",
    ],
)
def test_a_sound_start_is_no_finding(command: str, written: dict, tmp_path: Path) -> None:
    written["head_start_ray_commands"] = [command]
    text = yaml.safe_dump(written).replace("REPLACE_ME", "ours")
    assert findings(text, FILE, tmp_path) == []


def test_what_ray_would_fill_in_is_looked_at_too(written: dict, tmp_path: Path) -> None:
    """Without setup commands Ray's own install a nightly build."""
    del written["setup_commands"], written["docker"]
    text = yaml.safe_dump(written).replace("REPLACE_ME", "ours")
    found = "\n".join(findings(text, FILE, tmp_path))
    assert "setup_commands, which Ray fills in: a nightly build is installed" in found
    assert "no version of Ray is named" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: study\n", "is no cluster file"),
        ("a: [", "is neither YAML nor a SLURM script"),
        ("[" * 2000, "is neither YAML nor a SLURM script"),
    ],
)
def test_another_file_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(errors.InputError, match=said):
        check_cluster(path)


def test_the_command_says_what_is_left_and_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(filled_in(FILE), encoding="utf-8")
    done = CliRunner().invoke(app, ["check-cluster", str(path)])
    assert done.exit_code == errors.DONE, done.stderr
    assert done.stdout.split() == [*f"{path}: nothing found that is wrong (ray up)".split()]
    left = CliRunner().invoke(app, ["check-cluster", str(FILE)])
    assert left.exit_code == errors.BAD_INPUT
    assert "REPLACE_ME stands here still. Fill in your own." in left.stderr


def test_head_computes_nothing_and_workers_are_spot(prepared: dict) -> None:
    types = prepared["available_node_types"]
    head, worker = types[prepared["head_node_type"]], types["gpu_worker"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert worker["min_workers"] == 0
    assert worker["resources"]["GPU"] == 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert 5 <= prepared["idle_timeout_minutes"] <= 10


def test_the_heads_of_the_variants_compute_nothing_either() -> None:
    on_premise = yaml.safe_load(ON_PREMISE.read_text(encoding="utf-8"))
    assert "--num-cpus=0 --num-gpus=0" in " ".join(on_premise["head_start_ray_commands"])
    job = next(yaml.safe_load_all(KUBERAY.read_text(encoding="utf-8")))
    spec = job["spec"]["rayClusterSpec"]
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert [group["minReplicas"] for group in spec["workerGroupSpecs"]] == [0]


def test_all_files_name_one_version_of_ray_and_the_constraints_too() -> None:
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    texts += [(HOME / name).read_text(encoding="utf-8") for name in ("clusters/Dockerfile",)]
    named = re.findall(r"ray(?:\[tune\])?(?:==|:)(\d+\.\d+\.\d+)", "\n".join(texts))
    named += re.findall(r"rayVersion: (\S+)", "\n".join(texts))
    named += re.findall(r"^ray==(\S+)", (HOME / "constraints.txt").read_text(), re.MULTILINE)
    assert len(named) >= 9
    assert len(set(named)) == 1


def test_the_image_holds_every_package_and_nothing_of_a_patient() -> None:
    lines = (HOME / "clusters" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {Path(line.split()[2]).name for line in lines if line.startswith("COPY")}
    copied |= {word for line in lines if line.startswith("COPY") for word in line.split()[2:-1]}
    assert {"spaces", "cohort", "trainable", "search", "analysis", "polartune"} <= copied
    assert not copied & {".", "cohorts", "runs"}


@pytest.mark.parametrize("path", [FILE, ON_PREMISE], ids=["AWS", "on premise"])
def test_every_mount_that_is_spoken_of_reaches_the_container(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    bound = re.findall(r"--volume=(/mnt/\w+):\1$", text, re.MULTILINE)
    assert set(re.findall(r"/mnt/\w+", text)) == set(bound)


@pytest.mark.parametrize("path", [FILE, ON_PREMISE], ids=["AWS", "on premise"])
def test_the_patient_key_is_never_sent(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert "**/*.key" in content["rsync_exclude"]
    assert ".gitignore" in content["rsync_filter"]
    ignored = (HOME / ".gitignore").read_text(encoding="utf-8").split()
    assert {"cohorts/", "runs/", ".venv/"} <= set(ignored)


def test_the_slurm_script_starts_ray_on_every_node_and_passes_the_study(tmp_path: Path) -> None:
    """Run with stand-ins for SLURM's and Ray's commands."""
    commands = {
        "scontrol": "printf 'node07\\nnode08\\n'",
        "srun": 'shift; exec "$@"',
        "ray": 'echo "$RAY_AUTH_MODE" "$@"; exit 3',
    }
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    for name, script in commands.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "42", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[07-08]"}
    done = subprocess.run(
        ["bash", str(SLURM), "studies/paper.yaml"],
        cwd=tmp_path,
        env={**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    start, _, study = done.stdout.strip().partition(" -- ")
    assert start.startswith("token symmetric-run --address node07:6379 --min-nodes 2 --temp-dir ")
    assert start.endswith("ray-42")
    assert study == "polartune run studies/paper.yaml --address auto --out runs"
    assert done.returncode == 3  # the study's own exit code is the job's
