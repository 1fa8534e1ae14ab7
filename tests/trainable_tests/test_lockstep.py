"""Folds in lock-step: no leak, common seeds, resumable, and the bank changes nothing."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spaces.errors import InputError
from spaces.parameters import Configuration
from spaces.trial_log import LOSSES
from trainable.bank import BankedFeatures
from trainable.features import ComputedFeatures
from trainable.lockstep import Fold, cross_validation_folds
from trainable.metrics import auc
from trainable.problem import fill_part, missing_parts, open_problem

CONFIGURATION = Configuration(
    lambda_=0.5, learning_rate=1e-3, weight_decay=1e-2, augmentation_strength=1.0
)


@pytest.fixture(autouse=True)
def _fresh_problem():
    open_problem.cache_clear()
    yield
    open_problem.cache_clear()


def opened(run, *, fill=True):
    problem = open_problem(str(run.root), "cpu")
    if fill:
        for part in missing_parts(str(run.root), "cpu"):
            fill_part(str(run.root), "cpu", part)
    return problem


def curve(problem, configuration=CONFIGURATION, epochs=3):
    validation = problem.cross_validation(configuration)
    return [validation.advance() for _ in range(epochs)]


def same(one, two):
    return np.array_equal(one.logits, two.logits) and one.auc == two.auc and one.loss == two.loss


def test_a_report_is_a_full_cross_validation(make_run):
    problem = opened(make_run())
    report = curve(problem, epochs=1)[0]
    assert len(report.auc) == 5
    assert set(report.loss) == set(LOSSES)
    assert report.finite
    assert np.isfinite(report.logits).all(), "every patient is validated exactly once"
    positive, difference = problem.labels.target, report.logits[:, 1] - report.logits[:, 0]
    assert report.pooled_auc == auc(positive, difference)
    for fold in range(5):
        rows = problem.folds == fold
        assert report.auc[fold] == auc(positive[rows], difference[rows])


def test_bank_on_and_off_give_equal_curves(make_run):
    banked = opened(make_run("on"))
    assert isinstance(banked.frozen[0].features, BankedFeatures)
    on = curve(banked)
    open_problem.cache_clear()
    computed = opened(make_run("off", **{"bank.mode": "off"}))
    assert isinstance(computed.frozen[0].features, ComputedFeatures)
    assert all(same(a, b) for a, b in zip(on, curve(computed), strict=True))


def test_a_second_study_on_the_same_maps_computes_nothing(make_run):
    shuffled = {"cohort.split": {"test": 12, "stratify": False}}
    opened(make_run("one", **shuffled))
    open_problem.cache_clear()
    other = make_run("two", **shuffled, **{"cohort.derive": {"impaired_any": {"below": 2.2}}})
    assert missing_parts(str(other.root), "cpu") == []


def test_a_damaged_part_is_computed_again(make_run):
    run = make_run()
    problem = opened(run)
    part = problem.parts()[0]
    path = problem.frozen[0].bank.path(part.column, part.strength, part.chunk)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert missing_parts(str(run.root), "cpu") == [part]


def test_a_full_disk_is_named_before_anything_is_written(make_run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"the feature bank needs .* are free"):
        missing_parts(str(make_run().root), "cpu")


def test_a_checkpoint_continues_as_if_nothing_had_happened(make_run, tmp_path):
    problem = opened(make_run())
    undisturbed = curve(problem)
    validation = problem.cross_validation(CONFIGURATION)
    validation.advance()
    validation.save(tmp_path / "1.safetensors")
    again = problem.cross_validation(CONFIGURATION)
    again.restore(tmp_path / "1.safetensors")
    assert all(same(again.advance(), report) for report in undisturbed[1:])


def test_every_fold_is_trained_with_the_trials_configuration(make_run):
    validation = opened(make_run()).cross_validation(CONFIGURATION)
    for training in validation.trainings:
        assert training.configuration is CONFIGURATION
        group = training.optimiser.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (1e-3, 1e-2)


def test_trials_share_initialisation_and_order(make_run):
    problem = opened(make_run())
    other = Configuration(
        lambda_=0.9, learning_rate=1e-4, weight_decay=1e-3, augmentation_strength=0.0
    )
    one, two = problem.cross_validation(CONFIGURATION), problem.cross_validation(other)
    for a, b in zip(one.trainings, two.trainings, strict=True):
        assert torch.equal(a.head.classifier.weight, b.head.classifier.weight)
    starts = [training.head.classifier.weight for training in one.trainings]
    assert not torch.equal(starts[0], starts[1]), "folds start differently"


def test_validation_patients_do_not_train(make_run):
    """Noise in the labels and segments of fold 0's validation rows leaves its head unchanged."""
    run = make_run()
    problem = opened(run)
    first = problem.cross_validation(CONFIGURATION)
    first.advance()
    rows = problem.folds == 0
    problem.labels.target[rows] = 1 - problem.labels.target[rows]
    problem.labels.segments[rows] += 5.0
    second = problem.cross_validation(CONFIGURATION)
    second.advance()
    heads = [
        (a.head.trained(), b.head.trained())
        for a, b in zip(first.trainings, second.trainings, strict=True)
    ]
    equal = [all(torch.equal(a[name], b[name]) for name in a) for a, b in heads]
    assert equal == [True, False, False, False, False]


def test_a_fold_that_validates_its_own_training_rows_cannot_be_built():
    with pytest.raises(ValueError, match="validates patients that it trains on"):
        Fold(0, np.array([1, 2, 3]), np.array([3, 4]))


def test_folds_partition_the_development_set():
    folds = cross_validation_folds(np.array([0, 1, 2, 0, 1, 2, 2]))
    assert sorted(np.concatenate([fold.validation for fold in folds])) == list(range(7))
    assert all(len(fold.train) + len(fold.validation) == 7 for fold in folds)


@pytest.mark.parametrize(("lambda_", "term"), [(1.0, "segments"), (0.0, "target")])
def test_extreme_lambdas_ignore_the_other_task(make_run, lambda_, term):
    configuration = Configuration(
        lambda_=lambda_, learning_rate=1e-3, weight_decay=0.0, augmentation_strength=0.0
    )
    problem = opened(make_run())
    before = problem.cross_validation(configuration)
    before.advance()
    values = getattr(problem.labels, term)
    values[:] = values[::-1].copy() if term == "segments" else 1 - values
    after = problem.cross_validation(configuration)
    after.advance()
    for one, two in zip(before.trainings, after.trainings, strict=True):
        trained, other = one.head.trained(), two.head.trained()
        assert all(torch.equal(trained[name], other[name]) for name in trained)


def test_without_segments_only_the_classification_is_learnt(make_run):
    run = make_run(**{"cohort.segments": None})
    configuration = Configuration(1.0, 1e-3, 0.0, 0.0)
    report = curve(opened(run), configuration, epochs=1)[0]
    assert not [name for name in report.loss if "regression" in name]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.05)])
def test_the_saved_model_predicts_what_was_trained(make_run, tmp_path, precision, tolerance):
    from spaces.run_files import write_json
    from trainable.model import load_model, save_head, save_weights

    run = make_run(**{"network.precision": precision})
    problem = opened(run)
    loop = problem.development_training(CONFIGURATION)
    loop.advance()
    training = loop.trainings[0]
    digest = save_weights(tmp_path / "model", problem.trained_state(training))
    assert "_fc.weight" in load_file(tmp_path / "model" / "model.safetensors")
    info = {
        "sha256": digest,
        "backbone": "efficientnet_lite0",
        "image_size": 32,
        "inputs": ["reserve"],
        "stack": "late",
        "segments_prefix": "mfr",
        "trunk_sha256": problem.frozen[0].trunk_sha256,
        "segment_mean": training.scale.mean.tolist(),
        "segment_sd": training.scale.deviation.tolist(),
        "chosen": {"configuration": {"lambda": CONFIGURATION.lambda_}},
    }
    write_json(tmp_path / "model" / "model.json", "model", info)
    files = problem._maps.columns.paths[0][0]
    prediction = load_model(tmp_path / "model").predict({"reserve": files})
    expected = training.predict(np.arange(len(files))).numpy()
    np.testing.assert_allclose(prediction.logits, expected[:, 17:], atol=tolerance)
    np.testing.assert_allclose(
        prediction.segments, training.scale.restore(expected[:, :17]), atol=tolerance
    )
    again = problem.development_training(CONFIGURATION, repeat=1)
    again.advance()
    other = again.trainings[0]
    path = tmp_path / "1.safetensors"
    digest = save_head(path, other.head.trained(), trunk_sha256=problem.frozen[0].trunk_sha256)
    model = load_model(tmp_path / "model")
    repeated = model.with_head(path, digest).predict({"reserve": files})
    others = other.predict(np.arange(len(files))).numpy()
    np.testing.assert_allclose(repeated.logits, others[:, 17:], atol=tolerance)
    assert np.abs(others - expected).max() > 10 * tolerance
    own = tmp_path / "0.safetensors"
    digests = {path: digest, own: save_head(own, training.head.trained(), trunk_sha256="another")}
    assert [model.shares_trunk_with(its) for its in digests] == [True, False]
    found = model.predict_heads({"reserve": files}, digests)
    for logits, its in zip(found, (repeated, prediction), strict=True):
        np.testing.assert_array_equal(logits, its.logits)


@pytest.mark.parametrize("stack", ["late", "early"])
def test_stacked_maps_train(make_run, stack):
    changes = {"cohort.inputs": ["rest", "stress"], "cohort.stack": stack}
    report = curve(opened(make_run(**changes)), epochs=1)[0]
    assert report.finite


@pytest.mark.slow
def test_everything_can_train(make_run):
    problem = opened(make_run(**{"network.trainable_layers": "all"}))
    assert problem.frozen[0].bank is None
    assert curve(problem, epochs=1)[0].finite


@pytest.mark.slow
def test_in_bf16_the_bank_moves_no_fold_auc_by_more_than_a_hundredth(make_run):
    on = curve(opened(make_run("on", **{"network.precision": "bf16"})))
    open_problem.cache_clear()
    off = curve(opened(make_run("off", **{"network.precision": "bf16", "bank.mode": "off"})))
    for a, b in zip(on, off, strict=True):
        np.testing.assert_allclose(a.auc, b.auc, atol=0.01)


@pytest.mark.slow
def test_a_random_trunk_is_calibrated_on_phantoms_once(make_run, monkeypatch):
    random = {"network.backbone": "resnet18", "network.weights": "random"}
    report = curve(opened(make_run("first", **random)), epochs=1)[0]
    open_problem.cache_clear()
    monkeypatch.setattr("cohort.drawing.phantom.calibration_maps", None)
    again = curve(opened(make_run("second", **random)), epochs=1)[0]
    assert same(report, again)


@pytest.mark.slow
def test_a_random_trunk_serves_one_map_and_two(make_run):
    random = {"network.backbone": "resnet18", "network.weights": "random"}
    curve(opened(make_run("one", **random, **{"cohort.inputs": ["rest"]})), epochs=1)
    open_problem.cache_clear()
    two = make_run("two", **random, **{"cohort.inputs": ["rest", "stress"]})
    assert curve(opened(two), epochs=1)[0].finite


def test_an_epoch_uses_its_view_and_validation_the_plain_image(make_run, monkeypatch):
    validation = opened(make_run()).cross_validation(CONFIGURATION)
    seen = []
    features = validation.trainings[0].features
    read = features.read

    def watch(strength, view, rows):
        seen.append((strength, view))
        return read(strength, view, rows)

    monkeypatch.setattr(features, "read", watch)
    for epoch in (1, 2, 3):
        seen.clear()
        validation.advance()
        assert set(seen) == {(1.0, (epoch - 1) % 2), (0.0, 0)}


def test_a_cosine_schedule_is_laid_out_for_the_horizon(make_run):
    changes = {"training.schedule": "cosine", "training.horizon": 4, "training.epochs": 2}
    validation = opened(make_run(**changes)).cross_validation(CONFIGURATION)
    validation.advance()
    [rate] = {t.optimiser.param_groups[0]["lr"] for t in validation.trainings}
    steps = -(-len(validation.trainings[0].fold.train) // 16)
    done = (steps - 1) / steps
    assert rate == pytest.approx(1e-3 * 0.5 * (1 + np.cos(np.pi * done / 4)))


def test_a_vanished_image_is_told_without_its_name(make_run, phantom, tmp_path):
    import shutil

    folder = shutil.copytree(phantom.parent, tmp_path / "copy")
    run = make_run(**{"cohort.path": str(folder / phantom.name)})
    next(iter((folder / "images").iterdir())).unlink()
    for image in sorted((folder / "images").iterdir())[:10]:
        image.unlink()
    with pytest.raises(InputError, match=r"polar map \d+ of 48: cannot be read any more") as caught:
        missing_parts(str(run.root), "cpu")
    assert "phantom_" not in str(caught.value)


def test_class_weights_come_from_the_training_patients_of_each_fold(make_run):
    run = make_run("balanced", **{"training.class_weight": "balanced"})
    problem = opened(run, fill=False)
    target = problem.labels.target
    for training in problem.cross_validation(CONFIGURATION).trainings:
        here = target[training.fold.train]
        expected = [len(here) / (2 * np.sum(here == label)) for label in (0, 1)]
        assert training.weights.tolist() == pytest.approx(expected)
    open_problem.cache_clear()
    plain = opened(make_run("plain"), fill=False).cross_validation(CONFIGURATION).trainings
    assert all(training.weights is None for training in plain)
