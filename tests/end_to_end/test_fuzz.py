"""Whatever comes in, a result or one of our errors on one line goes out, in time.

More than 10,000 inputs, the same in every run: studies, cohort tables, trial logs, images, models.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from damage import (
    TOKENS,
    answer,
    answered,
    damaged_bytes,
    damaged_png,
    damaged_tree,
    in_time,
    values,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors.torch import save

from cohort.reading.images import ImageFacts, UnusableImageError, inspect_images, read_image
from cohort.table import read_cohort
from search.board import Board
from spaces.campaign import read_campaign
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_out_of_fold, sha256_of, write_json, write_out_of_fold
from spaces.study import Study, read_study
from spaces.trial_log import Epoch, TrialLog, TrialRecord, read_trials, refuse_other_code, scores
from trainable.model import load_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

INPUTS = {
    "study bytes": 800,
    "study values": 1300,
    "campaign values": 300,
    "table bytes": 700,
    "table cells": 700,
    "trials bytes": 1500,
    "trials values": 1500,
    "images": 1200,
    "PNG chunks": 1400,
    "DICOM": 700,
    "model.json": 700,
    "model.json, sound weights": 100,
    "weights": 60,
    "out-of-fold": 500,
}


def many(kind: str) -> settings:
    return settings(max_examples=INPUTS[kind], suppress_health_check=list(HealthCheck))


# Study files

STUDY = {
    "name": "small",
    "seed": 1,
    "cohort": {
        "path": "cohort.csv",
        "inputs": ["rest", "reserve"],
        "target": "impaired",
        "derive": {"impaired": {"below": 2.0, "segments": "LAD"}},
        "colour_scale": "fixed",
        "split": {"test": 12, "stratify": True},
    },
    "network": {"backbone": "resnet18", "weights": {"file": "w.pth", "sha256": "0" * 64}},
    "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "lambda": 0.5},
    "training": {"epochs": 3},
    "search": {"trials": 3},
    "resources": {"gpus_per_trial": 0.5},
    "bank": {"path": "banks"},
}


@in_time()
def check_study(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    study = answer(lambda: read_study(path))
    if study is not None:
        assert Study.model_validate(yaml.safe_load(study.as_yaml())) == study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@many("study bytes")
@given(content=damaged_bytes(yaml.safe_dump(STUDY).encode()))
def test_study_files_of_any_bytes(folder: Path, content: bytes) -> None:
    check_study(folder / "study.yaml", content)


@many("study values")
@given(tree=damaged_tree(STUDY) | values)
def test_study_files_of_any_values(folder: Path, tree: Any) -> None:
    check_study(folder / "study.yaml", yaml.safe_dump(tree, allow_unicode=True).encode())


def test_study_files_with_each_odd_token_as_each_value(folder: Path) -> None:
    lines = yaml.safe_dump(STUDY).encode().splitlines(keepends=True)
    for at, line in enumerate(lines):
        key, colon, _ = line.partition(b": ")
        for token in TOKENS if colon else ():
            content = [*lines[:at], key + colon + token + b"\n", *lines[at + 1 :]]
            check_study(folder / "study.yaml", b"".join(content))


CAMPAIGN = {
    "format": "polartune/campaign/1",
    "name": "all",
    "inputs": {"rest": ["rest"], "both": ["rest", "reserve"]},
    "targets": ["impaired"],
    "transfer": {"from": "impaired", "targets": ["sex"]},
    "study": {
        "cohort": {
            "path": "cohort.csv",
            "colour_scale": "fixed",
            "derive": {"impaired": {"below": 2.0}},
        },
        "training": {"epochs": 3},
    },
}


@many("campaign values")
@given(tree=damaged_tree(CAMPAIGN))
def test_campaign_files_of_any_values(folder: Path, tree: Any) -> None:
    path = folder / "campaign.yaml"
    with in_time():
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        plan = answer(lambda: read_campaign(path, folder))
        assert plan is None or plan.members


# Cohort tables

PATIENTS = 20


@pytest.fixture(scope="module")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz_cohort")
    generator = np.random.default_rng(0)
    for number in range(PATIENTS):
        pixels = generator.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


COLUMNS = ["patient_id", "rest", "sex", "age", *(f"mfr_{segment:02d}" for segment in range(1, 18))]
ROWS = [
    [f"p{number}", f"{number}.png", number % 2, 50 + number, *np.linspace(1, 3, 17).round(2)]
    for number in range(PATIENTS)
]
TABLE = [COLUMNS, *[[str(cell) for cell in row] for row in ROWS]]
CELLS = st.sampled_from(["", " ", "NA", "1,5", "-1", "1e400", "nan", "2", ";", '"', "a\nb", "=1"])


def as_csv(table: list[list[str]]) -> bytes:
    return "\n".join(",".join(row) for row in table).encode()


@in_time()
def check_cohort(folder: Path, content: bytes, *, verify: bool, **split: Any) -> None:
    (folder / "cohort.csv").write_bytes(content)
    section = {"path": "cohort.csv", "inputs": ["rest"], "target": "sex", "colour_scale": "fixed"}
    split = {"test": 6, "folds": 2, "stratify": True} | split
    study = Study.model_validate({"name": "fuzz", "cohort": section | {"split": split}})
    cohort = answer(lambda: read_cohort(study, folder, verify_images=verify))
    if cohort is not None:
        assert len(cohort.development) + cohort.test_size == cohort.flow["included"]


@many("table bytes")
@given(content=damaged_bytes(as_csv(TABLE)), verify=st.booleans())
def test_cohort_tables_of_any_bytes(cohort_folder: Path, content: bytes, verify: bool) -> None:
    check_cohort(cohort_folder, content, verify=verify)


@st.composite
def damaged_cells(draw: st.DrawFn) -> bytes:
    table = [list(row) for row in TABLE]
    for _ in range(draw(st.integers(1, 6))):
        row = draw(st.integers(0, PATIENTS) | st.just(0))
        column = draw(st.integers(0, len(COLUMNS) - 1))
        table[row][column] = draw(CELLS | st.text(max_size=8) | st.sampled_from(TABLE[1]))
    return as_csv(table)


@many("table cells")
@given(content=damaged_cells(), verify=st.booleans(), column=st.sampled_from([None, "sex", "age"]))
def test_cohort_tables_of_any_cells(
    cohort_folder: Path, content: bytes, verify: bool, column: str | None
) -> None:
    check_cohort(cohort_folder, content, verify=verify, column=column)


# Trial logs


def sound_log(path: Path) -> bytes:
    log = TrialLog(path)
    for number in range(2):
        configuration = Configuration(0.3, 1e-3, 1e-2, 0.5)
        log.asked(number, configuration, "default")
        for epoch in (1, 2):
            loss = {"train_total": (0.1, 0.2)}
            log.epoch(number, Epoch(epoch, (0.7, 0.8), 0.75, loss, 0.75, 1.5), "")
        log.lost(number, "node lost")
        ended = TrialRecord(number, configuration, "default", state="complete", reason="done")
        ended.score, ended.best_epoch, ended.oof_sha256 = 0.75, 2, "0" * 64
        log.ended(ended)
    return path.read_bytes()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return sound_log(tmp_path_factory.mktemp("log") / "trials.jsonl")


@in_time()
def check_log(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    answer(lambda: refuse_other_code(path))
    for trial in answer(lambda: read_trials(path)) or ():
        assert all(map(math.isfinite, trial.configuration.as_dict().values()))
        assert all(map(math.isfinite, scores([e.mean_auc for e in trial.epochs], epochs=5)))
        assert trial.state in {None, "complete", "stopped", "failed"}
        assert all(epoch.sd_auc >= 0 for epoch in trial.epochs)
    # A driver that goes on: the log takes a torn line away, and deletes what has ended.
    board = answer(lambda: Board(Study.model_validate(STUDY), RunFiles(path.parent)))
    if board is not None:
        assert len(board.trials) >= len(board.waiting)
        assert answer(lambda: len(read_trials(path))) == len(board.trials)


@many("trials bytes")
@given(data=st.data())
def test_trial_logs_of_any_bytes(folder: Path, log: bytes, data: st.DataObject) -> None:
    check_log(folder / "trials.jsonl", data.draw(damaged_bytes(log)))


@many("trials values")
@given(data=st.data())
def test_trial_logs_of_any_values(folder: Path, log: bytes, data: st.DataObject) -> None:
    events = data.draw(damaged_tree([json.loads(line) for line in log.splitlines()]))
    lines = [json.dumps(event) for event in events]
    check_log(folder / "trials.jsonl", "".join(f"{line}\n" for line in lines).encode())


# Images


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sound_images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    colours, grey = (
        Image.fromarray(pixels),
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257),
    )
    told = PngImagePlugin.PngInfo()
    told.add_text("name", "x" * 2000, zip=True)
    return [
        encoded(colours, "PNG", pnginfo=told, icc_profile=b"x" * 200),
        encoded(colours.convert("P"), "PNG", transparency=3),
        encoded(grey, "PNG"),
        encoded(colours, "PNG", save_all=True, append_images=[colours.convert("RGB")]),
        encoded(
            colours, "JPEG", progressive=True, exif=b"Exif\x00\x00" + b"MM\x00*\x00\x00\x00\x08"
        ),
        encoded(colours.convert("CMYK"), "JPEG"),
    ]


IMAGES = sound_images()


@in_time()
def check_image(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    image = answer(lambda: read_image(path, 24))
    [facts] = inspect_images([path])
    if image is None:
        assert isinstance(facts, UnusableImageError)
    else:
        assert (image.shape, image.dtype) == ((3, 24, 24), np.uint8)
        assert isinstance(facts, ImageFacts)


@many("images")
@given(content=st.sampled_from(IMAGES).flatmap(damaged_bytes))
def test_images_of_any_bytes(folder: Path, content: bytes) -> None:
    check_image(folder / "map.png", content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@many("PNG chunks")
@given(content=st.sampled_from(IMAGES[:4]).flatmap(damaged_png))
def test_images_of_any_chunks_under_right_checksums(folder: Path, content: bytes) -> None:
    check_image(folder / "map.png", content)


@pytest.fixture(scope="module")
def captures(need: Callable[[str], ModuleType]) -> list[bytes]:
    """Secondary captures: colour, grey, with a palette, and one that holds a JPEG."""
    pydicom = need("pydicom")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    jpeg = pydicom.encaps.encapsulate([IMAGES[-2]])
    looks = [
        ("RGB", 3, pixels.tobytes(), "1.2.840.10008.1.2.1"),
        ("MONOCHROME2", 1, pixels[:, :, 0].tobytes(), "1.2.840.10008.1.2"),
        ("PALETTE COLOR", 1, pixels[:, :, 0].tobytes(), "1.2.840.10008.1.2.1"),
        ("YBR_FULL_422", 3, jpeg, "1.2.840.10008.1.2.4.50"),
    ]
    return [capture(pydicom, *look) for look in looks]


def capture(pydicom: ModuleType, kind: str, samples: int, pixels: bytes, syntax: str) -> bytes:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.PatientName, dataset.Rows, dataset.Columns = "Nobody^Known", 20, 20
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = samples, kind
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    if samples == 3:
        dataset.PlanarConfiguration = 0
    if kind.startswith("PALETTE"):
        for colour in ("Red", "Green", "Blue"):
            table = f"{colour}PaletteColorLookupTable"
            setattr(dataset, f"{table}Descriptor", [256, 0, 8])
            setattr(dataset, f"{table}Data", bytes(range(256)))
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = syntax.endswith("4.50")
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def test_the_undamaged_captures_are_read(folder: Path, captures: list[bytes]) -> None:
    """Else nothing behind the first refusal would be reached."""
    for content in captures:
        (folder / "map.dcm").write_bytes(content)
        assert read_image(folder / "map.dcm", 24).shape == (3, 24, 24)


@many("DICOM")
@given(data=st.data())
def test_captures_of_any_bytes(folder: Path, captures: list[bytes], data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(captures).flatmap(damaged_bytes))
    check_image(folder / "map.dcm", content)


# Models

ABOUT = {
    "backbone": "efficientnet_lite0",
    "image_size": 32,
    "inputs": ["reserve"],
    "stack": "late",
    "segment_mean": [2.0] * 17,
    "segment_sd": [0.5] * 17,
    "segments_prefix": "mfr",
    "trunk_sha256": "0" * 64,
    "chosen": {"configuration": {"lambda": 0.5}},
    "sha256": "0" * 64,
}


@pytest.fixture(scope="module")
def weights() -> bytes:
    from spaces.sections import NetworkSection
    from trainable.network import build_network

    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `demo`")
    section = NetworkSection(backbone="efficientnet_lite0", weights="random", image_size=32)
    network = build_network(
        section, maps=1, stack="late", folder=Path(), generator=torch.Generator().manual_seed(0)
    )
    return save(network.torchvision_state())


@many("model.json")
@given(about=damaged_tree(ABOUT))
def test_models_that_describe_themselves_in_any_way(folder: Path, about: dict[str, Any]) -> None:
    """Beside an empty file of weights: what is refused before they are read, and without them."""
    (folder / "model.json").write_text(json.dumps({"format": "polartune/model/1", **about}))
    (folder / "model.safetensors").write_bytes(b"")
    with in_time():
        assert answer(lambda: load_model(folder)) is None


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, weights: bytes) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


FLOATS = st.lists(st.floats(-1e6, 1e6), min_size=17, max_size=17)
# Each value is one that a model could have: what is left to refuse is that they do not fit.
FITTING = st.fixed_dictionaries(
    {
        "backbone": st.sampled_from(["efficientnet_lite0"] * 4 + ["resnet18"]),
        "image_size": st.integers(32, 64),
        "inputs": st.lists(st.text(max_size=8), min_size=1, max_size=3),
        "stack": st.sampled_from(["late", "early"]),
        "segment_mean": FLOATS,
        "segment_sd": FLOATS,
        "segments_prefix": st.text(max_size=8),
        "trunk_sha256": st.text(max_size=8),
        "chosen": st.fixed_dictionaries(
            {"configuration": st.fixed_dictionaries({"lambda": st.floats(0, 1)})}
        ),
    }
)


@many("model.json, sound weights")
@given(data=st.data())
def test_sound_weights_that_are_described_in_any_way(
    model_folder: Path, data: st.DataObject
) -> None:
    """Under their right digest, so that what describes them is used."""
    sound = {key: value for key, value in ABOUT.items() if key != "sha256"}
    about = data.draw(damaged_tree(sound) | FITTING)
    about = {"sha256": sha256_of(model_folder / "model.safetensors"), **about}
    (model_folder / "model.json").write_text(
        json.dumps({"format": "polartune/model/1", **about}), encoding="utf-8"
    )
    check_model(model_folder)


@in_time()
def check_model(folder: Path) -> None:
    model = answer(lambda: load_model(folder))
    if model is not None:
        side = model.info["image_size"]
        maps = [np.zeros((1, 3, side, side), np.uint8)] * len(model.info["inputs"])
        assert model.predict_pixels(maps).logits.shape == (1, 2)


@st.composite
def damaged_weights(draw: st.DrawFn, sound: bytes) -> bytes:
    """Damage in the header, under a length that is right, or in the first numbers."""
    length = int.from_bytes(sound[:8], "little")
    header, numbers = sound[8 : 8 + length], sound[8 + length :]
    if draw(st.booleans()):
        header = draw(damaged_bytes(header))
    else:
        header = json.dumps(draw(damaged_tree(json.loads(header)))).encode()
    if draw(st.integers(0, 4)) == 0:
        numbers = numbers[: draw(st.integers(0, 4000))]
    return len(header).to_bytes(8, "little") + header + numbers


@many("weights")
@given(data=st.data())
def test_weights_of_any_kind_under_a_right_digest(
    folder: Path, weights: bytes, data: st.DataObject
) -> None:
    (folder / "model.safetensors").write_bytes(data.draw(damaged_weights(weights)))
    write_json(
        folder / "model.json",
        "model",
        ABOUT | {"sha256": sha256_of(folder / "model.safetensors")},
    )
    check_model(folder)


@pytest.fixture(scope="module")
def logits(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("oof") / "0.parquet"
    write_out_of_fold(path, np.zeros((2, 6, 2), np.float32), np.arange(6) % 2)
    return path.read_bytes()


@many("out-of-fold")
@given(data=st.data())
def test_out_of_fold_files_of_any_bytes(folder: Path, logits: bytes, data: st.DataObject) -> None:
    path = folder / "0.parquet"
    path.write_bytes(data.draw(damaged_bytes(logits)))
    with in_time():
        found = answer(lambda: read_out_of_fold(path))
        assert found is None or found.ndim == 3


def test_more_than_ten_thousand_were_answered(request: pytest.FixtureRequest) -> None:
    """Last in this file: hypothesis may have run fewer than it was asked for."""
    ran = {getattr(item, "originalname", "") for item in request.session.items}
    if {name for name in globals() if name.startswith("test_")} - ran:
        pytest.skip("counts only where all tests of this file run")
    assert answered[0] >= 10_000
