"""Patient ids are planted, a study runs on a cluster, and no output holds one of them."""

from __future__ import annotations

import base64
import io
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from canary import contents, finds
from small_runs import small_study

from cohort.patient_key import key_path
from spaces import errors

HOME = Path(__file__).parents[2]
HEAD = """
import sys, ray
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**27, _temp_dir=sys.argv[1],
         _node_ip_address="127.0.0.1", log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def test_the_look_finds_a_word_however_it_is_packed() -> None:
    archive, table = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("module.py", "# CANARY7")
    pd.DataFrame({"patient": ["CANARY7"] * 9}).to_parquet(table, compression="zstd")
    page = b'<img src="data:image/png;base64,' + base64.b64encode(b"x" * 40 + b"CANARY7") + b'">'
    unkeyed = b"b0b7ea0cfb1dd9ba4c7ea7c3eb4e3f6f"
    files = {"a.zip": archive.getvalue(), "b.parquet": table.getvalue(), "c.html": page}
    assert {name.split(":")[0] for name in finds(["CANARY7"], files)} == set(files)
    assert finds(["CANARY7"], {"CANARY7.log": b""})
    assert finds(["CANARY7"], {"d": "CANARY7".encode("utf-16-le")})
    assert not finds(["CANARY7"], {"e": b"CANARY8 CANARY", "f": unkeyed})


def plant(phantom: Path, folder: Path) -> tuple[Path, list[str]]:
    """A cohort whose ids, image names and surnames are canaries; and the canaries."""
    table = pd.read_csv(phantom, dtype=str)
    words = []
    (folder / "maps").mkdir(parents=True)
    for row, old in enumerate(table["reserve"]):
        identity, surname = f"CANARY{secrets.token_hex(6)}", f"Canary{secrets.token_hex(6)}"
        shutil.copy(phantom.parent / old, folder / "maps" / f"{identity}.png")
        values = {"patient_id": identity, "reserve": f"maps/{identity}.png", "surname": surname}
        for name, value in values.items():
            table.loc[row, name] = value
        words += [identity, surname]
    table.loc[:1, "exclusion_reason"] = "poor quality"
    table.to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv", words


@contextmanager
def cluster(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a Ray head that keeps its session's files in ``folder``."""
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, str(folder)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield head.stdout.readline().strip()
    finally:
        head.communicate("", timeout=60)


@pytest.mark.slow
def test_no_output_holds_a_patient_or_the_key(phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `demo`")
    table, words = plant(phantom, tmp_path / "cohort")
    changes = {"search.trials": 2, "evaluation.bootstraps": 200, "bank.path": "banks"}
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(small_study(table, **changes)))
    (tmp_path / "home").mkdir()
    environment = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(HOME),
    }
    words.append(environment["RAY_AUTH_TOKEN"])
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="pt") as session:
        with cluster(Path(session), environment) as address:
            done = subprocess.run(
                [sys.executable, "-m", "polartune", "run", str(study), "--address", address],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            # Before Ray ends and removes what it kept.
            files = contents(Path(session))
        files |= contents(Path(session))
    assert done.returncode == errors.DONE, done.stderr
    files |= {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    for name in ("runs", "banks", "home"):
        files |= contents(tmp_path / name)
    ledger = table.with_suffix(".openings.jsonl")
    files[str(ledger)] = ledger.read_bytes()
    kinds = ("worker", ".zip", "events.out.tfevents", "optuna.log", "report.html", ".safetensors")
    for kind in kinds:
        assert any(kind in name for name in files), kind
    assert finds(words, files) == []
    key = key_path(table).read_bytes()
    assert not [
        n for n, content in files.items() if key in content or key.hex().encode() in content
    ]
