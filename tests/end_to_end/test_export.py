"""An exported model says what the run's model says, and its card says what that is worth."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import describe_lambda
from typer.testing import CliRunner

from analysis.use.export import export
from analysis.use.model_card import describe_model
from analysis.use.predict import find_model, predict, read_request
from cohort.reading.images import read_images
from polartune.commands import app
from spaces.errors import DONE, InputError, RefusedError
from spaces.run_files import RunFiles, read_json, sha256_of
from trainable import onnx_model
from trainable.model import load_model


@pytest.fixture(scope="module")
def maps(phantom) -> list[Path]:
    """The reserve maps of five patients."""
    return [phantom.parent / name for name in pd.read_csv(phantom)["reserve"][:5]]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def test_the_folder_predicts_what_the_run_predicts_and_the_run_stays_as_it_was(
    trained, maps, tmp_path
) -> None:
    before = digests(trained.model)
    result = CliRunner().invoke(app, ["export", str(trained.root), "-o", str(tmp_path / "out")])
    assert result.exit_code == DONE, result.output
    assert digests(trained.model) == before
    request = read_request(maps, ["reserve"])
    expected = predict(find_model(trained.root), request)
    pd.testing.assert_frame_equal(predict(find_model(tmp_path / "out"), request), expected)


def test_the_card_says_what_metrics_and_model_say(trained) -> None:
    card = describe_model(trained)
    metrics, model = (
        read_json(trained.metrics, "metrics"),
        read_json(trained.model / "model.json", "model"),
    )
    auc = metrics["model"]["auc"]
    span = auc["intervals"]["logit_delong"]
    assert f"| AUC, model | {auc['estimate']:.2f} | " in card
    if span["low"] is not None and not span["degenerate"]:
        assert f"{span['low']:.2f} to {span['high']:.2f}" in card
    for said in (
        "Research only; no medical device",
        "no external validation",
        f"{model['development_patients']} development patients",
        f"{metrics['n']} test patients of the same cohort, {metrics['positives']} positive",
        model["sha256"],
        "Intended use",
    ):
        assert said in card
    assert "{{" not in card


def test_nothing_that_is_handed_on_names_a_patient(trained, phantom, tmp_path) -> None:
    exported = export(trained, tmp_path, onnx=False)
    ids = pd.read_csv(phantom, dtype=str)["patient_id"]
    split = read_json(trained.split, "split")
    for name in exported.files:
        content = (tmp_path / name).read_bytes()
        for one in (*ids, *split["development"], *split["test"]):
            assert one.encode() not in content, name


def test_an_unjudged_model_says_so(trained, tmp_path) -> None:
    run = RunFiles(tmp_path)
    for name in ("study.yaml", "model/model.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((trained.root / name).read_bytes())
    assert "has not been judged on its test set yet" in describe_model(run)


@pytest.mark.parametrize(
    ("lambda_", "said", "unsaid"),
    [
        (0.5, ['probability of "impaired any"', "`mfr_01` to `mfr_17`"], ["No "]),
        (0.0, ["`mfr_01` to `mfr_17`", "No probability: "], ["probability of"]),
        (1.0, ['probability of "impaired any"', "No segment values: "], ["mfr_01"]),
    ],
)
def test_the_card_promises_only_what_was_trained(
    trained, tmp_path, lambda_: float, said: list[str], unsaid: list[str]
) -> None:
    model = edited(trained, tmp_path, lambda_)
    card = describe_model(model)
    promises = card[card.index("## Model") : card.index("## Intended use")]
    assert all(words in promises for words in said)
    assert not any(words in promises for words in unsaid)


def edited(trained, folder: Path, lambda_: float) -> RunFiles:
    """Return the run's study and model, as if lambda had been another."""
    run = RunFiles(folder / "run")
    shutil.copytree(trained.model, run.model)
    shutil.copy(trained.study, run.study)
    describe_lambda(run.model, lambda_)
    return run


def test_what_cannot_be_exported_is_told(trained, tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match="holds no trained model"):
        export(RunFiles(tmp_path), tmp_path / "out", onnx=False)
    with pytest.raises(InputError, match="must be another folder"):
        export(trained, trained.model, onnx=False)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"onnxscript is not installed.*polartune\[onnx\]"):
        export(trained, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_onnx_file_says_of_real_maps_what_the_network_says(
    trained, maps, tmp_path, need, monkeypatch
) -> None:
    onnx, _, runtime = (need(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    exported = export(trained, tmp_path, onnx=True)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    [declared] = session.get_inputs()
    size = declared.shape[-1]
    pixels = read_images(maps, size).astype(np.float32)
    probability, logits, segments = session.run(None, {declared.name: pixels})
    ours = load_model(trained.model).predict({"reserve": maps})
    assert declared.name == "reserve"
    assert logits == pytest.approx(ours.logits, abs=1e-4)
    assert probability == pytest.approx(ours.probability, abs=1e-5)
    assert segments == pytest.approx(ours.segments, abs=1e-4)
    assert np.ptp(logits[:, 1]) > 1e-3, "the maps must not all look the same to the network"
    assert exported.difference <= onnx_model.TOLERANCE

    # What is compared before it is kept is the file: one changed weight in it is refused.
    file = onnx.load(tmp_path / "model.onnx")
    weight = next(one for one in file.graph.initializer if one.name.endswith("classifier.weight"))
    weight.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, weight.name)
    )
    monkeypatch.setattr(
        onnx_model,
        "_export",
        lambda _whole, _model, path: path.write_bytes(file.SerializeToString()),
    )
    with pytest.raises(RefusedError, match="must agree with the network"):
        export(trained, tmp_path / "other", onnx=True)
    assert not list((tmp_path / "other").glob("*.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lambda_", "outputs"), [(0.0, ["segments"]), (1.0, ["probability", "logits"])]
)
def test_the_onnx_file_has_no_output_that_was_not_trained(
    trained, tmp_path, need, lambda_: float, outputs: list[str]
) -> None:
    _, _, runtime = (need(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    exported = export(edited(trained, tmp_path, lambda_), tmp_path / "out", onnx=True)
    session = runtime.InferenceSession(
        tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    assert [output.name for output in session.get_outputs()] == outputs
    assert exported.difference <= onnx_model.TOLERANCE
