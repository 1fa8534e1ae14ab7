"""Patient ids are planted, a study runs on a cluster, and no output holds one of them."""

from __future__ import annotations

import base64
import io
import os
import secrets
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
from patience import PATIENCE
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small_runs import SIZE, small_study

from cohort.drawing.phantom import draw_phantom
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


@pytest.mark.parametrize("before", [b"", b"x", b"xy", b"xyz"])
def test_the_look_finds_a_key_however_it_is_written(before: bytes) -> None:
    key, longer = bytes(range(100, 132)), io.BytesIO()
    whole = before + key + b"z"
    texts = [whole, whole.hex(), whole.hex().upper(), base64.b64encode(whole)]
    texts += [base64.urlsafe_b64encode(whole)]
    files = {str(at): t if isinstance(t, bytes) else t.encode() for at, t in enumerate(texts)}
    with zipfile.ZipFile(longer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", texts[1])
    files["5"] = longer.getvalue()
    assert {name.split(":")[0] for name in finds([], files, [key])} == set(files)
    assert not finds([], files, [bytes(range(99, 131))])


def plant(phantom: Path, folder: Path) -> tuple[Path, list[str]]:
    """A cohort whose ids, image names, image texts and surnames are canaries; and the canaries."""
    table = pd.read_csv(phantom, dtype=str)
    words = []
    (folder / "maps").mkdir(parents=True)
    for row, old in enumerate(table["reserve"]):
        kinds = ("CANARY", "Canary", "canary")
        identity, surname, told = (f"{kind}{secrets.token_hex(6)}" for kind in kinds)
        text = PngInfo()
        text.add_text("PatientName", told)
        with Image.open(phantom.parent / old) as image:
            image.save(folder / "maps" / f"{identity}.png", pnginfo=text)
        values = {"patient_id": identity, "reserve": f"maps/{identity}.png", "surname": surname}
        for name, value in values.items():
            table.loc[row, name] = value
        words += [identity, surname, told]
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
        head.communicate("", timeout=PATIENCE)


@pytest.mark.slow
def test_no_output_holds_a_patient_or_the_key(phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `demo`")
    table, words = plant(phantom, tmp_path / "cohort")
    elsewhere = draw_phantom(tmp_path / "oslo", patients=30, seed=9, size=SIZE, ceiling=False)
    other, more = plant(elsewhere, tmp_path / "other")
    words += more
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
    said: dict[str, bytes] = {}

    def polartune(*more: object) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "polartune", *map(str, more)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == errors.DONE, done.stderr
        said[f"what {more[0]} printed"] = (done.stdout + done.stderr).encode()

    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="pt") as session:
        with cluster(Path(session), environment) as address:
            polartune("run", study, "--address", address)
            # Before Ray ends and removes what it kept.
            files = contents(Path(session))
        files |= contents(Path(session))
    run = tmp_path / "runs" / "small"
    polartune("evaluate", run, "--cohort", other)
    polartune("report", run)
    polartune("export", run, "-o", tmp_path / "exported")
    polartune("predict", run, other, "-o", tmp_path / "predictions.csv")
    files |= said
    for name in ("runs", "banks", "home", "exported"):
        files |= contents(tmp_path / name)
    for ledger in tmp_path.glob("*/*.openings.jsonl"):
        files[str(ledger)] = ledger.read_bytes()
    for name in ("model/model.safetensors", "run.log", "report.html", "trials.jsonl", "optuna.log"):
        assert str(run / name) in files, name
    kinds = ("worker", ".zip", "events.out.tfevents", "external/other", "exported/MODEL_CARD.md")
    for kind in (*kinds, "cohort.openings.jsonl"):
        assert any(kind in name for name in files), kind
    keys = [key_path(one).read_bytes() for one in (table, other)]
    assert finds(words, files, keys) == []
    # Whom a prediction is of, its reader must know: it repeats the first column, and no more.
    asked = pd.read_csv(other, dtype=str)["patient_id"]
    predictions = tmp_path / "predictions.csv"
    assert list(pd.read_csv(predictions, dtype=str)["patient"]) == list(asked)
    hidden = sorted(set(words) - set(asked))
    assert finds(hidden, {"predictions": predictions.read_bytes()}, keys) == []
