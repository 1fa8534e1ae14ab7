"""The second of two steps starts where the first ended: fold by fold, with new logits."""

import json
import shutil

import numpy as np
import pytest
import torch
from in_process import FIXED, finish_in_process, open_cohort, search_in_process
from safetensors.torch import load_file

from analysis.judge.other_models import FOLDS, fold_models, predict_others, read_others
from spaces.errors import InputError, RefusedError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.study import read_study
from trainable.model import load_model
from trainable.network import draw_linear
from trainable.problem import Problem
from trainable.seeds import torch_generator

pytestmark = pytest.mark.slow


def problem_of(run):
    return Problem(read_study(run.study), open_cohort(run), run.root, "cpu")


@pytest.fixture
def first_step(trained, tmp_path):
    shutil.copytree(trained.root, tmp_path / "first")
    return RunFiles(tmp_path / "first")


@pytest.fixture
def second_step(make_run, first_step, trained):
    def prepare(name="second", **changes):
        return make_run(
            name,
            **FIXED
            | {"cohort.target": "sex", "cohort.derive": {}, "transfer": {"run": "../first"}}
            | {"bank.path": str(trained.root.parent / "banks")}
            | changes,
        )

    return prepare


CONFIGURATION = Configuration.from_mapping(
    {"lambda": 0.5, "learning_rate": 0.01, "weight_decay": 0.01, "augmentation_strength": 0.0}
)
CLASSIFIER = ("classifier.weight", "classifier.bias")


def assert_continues(head, state, *, seed, fold):
    """All of ``state`` is in the head, but for the logit rows, which are those of a new draw."""
    fresh = torch.nn.Linear(head.classifier.in_features, 19)
    draw_linear(fresh, torch_generator(seed, fold, "classifier"))
    new = {f"classifier.{name}": value for name, value in fresh.named_parameters()}
    for name, value in head.trained().items():
        if name in CLASSIFIER:
            assert torch.equal(value[:17], state[name][:17])
            assert torch.equal(value[17:], new[name][17:])
            assert not torch.equal(value[17:], state[name][17:])
        else:
            assert torch.equal(value, state[name])


def test_fold_k_starts_from_fold_k_with_new_logits(first_step, second_step):
    problem = problem_of(second_step())
    trainings = problem.cross_validation(CONFIGURATION).trainings
    states = [load_file(first_step.model / "folds" / f"{k}.safetensors") for k in range(5)]
    for k, training in enumerate(trainings):
        assert_continues(training.head, states[k], seed=problem.study.seed, fold=k)
    names = [name for name in states[0] if name not in CLASSIFIER]
    assert not torch.equal(states[0][names[0]], states[1][names[0]])


def test_the_development_set_model_starts_from_the_development_set_model(first_step, second_step):
    problem = problem_of(second_step())
    (training,) = problem.development_training(CONFIGURATION).trainings
    final = load_file(first_step.model / "model.safetensors")
    # Under torchvision's names the classifier is `_fc`, and the encoder has no prefix.
    theirs = {
        name: name.removeprefix("encoder.network.").replace("classifier.", "_fc.")
        for name in training.head.trained()
    }
    state = {name: final[known] for name, known in theirs.items()}
    assert_continues(training.head, state, seed=problem.study.seed, fold=5)


def test_a_second_step_runs_to_its_end_and_names_the_first(first_step, second_step):
    run = second_step()
    search_in_process(run)
    finish_in_process(run, open_cohort(run))
    first = json.loads((first_step.model / "model.json").read_text())
    second = json.loads((run.model / "model.json").read_text())
    assert second["first_step_sha256"] == first["sha256"]
    assert first["first_step_sha256"] is None
    assert second["replay"]["bit_equal"]


def test_fewer_layers_give_every_fold_the_trunk_of_its_own_fold(first_step, second_step):
    """What fold k's classifier sees is what fold model k of the first step made of its maps."""
    first = problem_of(first_step)
    second = problem_of(second_step(**{"network.trainable_layers": 2, "bank": {"mode": "off"}}))
    assert len(second.frozen) == 6
    assert len({frozen.trunk_sha256 for frozen in second.frozen}) == 6
    rows = np.arange(8)
    before, after = (
        problem.cross_validation(CONFIGURATION).trainings for problem in (first, second)
    )
    for k in range(5):
        state = load_file(first_step.model / "folds" / f"{k}.safetensors")
        before[k].head.load_trained(state)
        assert set(dict(after[k].head.trained())) < set(state)
        assert_continues(after[k].head, state, seed=second.study.seed, fold=k)
    theirs, ours = (np.stack([one.represent(rows) for one in all_]) for all_ in (before, after))
    apart = np.abs(ours[:, None] - theirs[None]).mean(axis=(2, 3))  # fold of one, fold of other
    assert (apart.argmin(axis=1) == np.arange(5)).all()
    assert np.diag(apart).max() < 0.1 * apart[~np.eye(5, dtype=bool)].min()


def test_a_second_step_with_trunks_of_its_own_runs_to_its_end(first_step, second_step):
    """Six banks are filled; the final model predicts as the training did that made it."""
    gentle = {"lambda": 0.5, "augmentation_strength": 0.0, "learning_rate": 0.0003}
    run = second_step(**{"network.trainable_layers": 2, "space": gentle})
    problem = problem_of(run)
    parts = problem.missing_parts()
    assert {part.trunk for part in parts} == set(range(6))
    assert len({problem.frozen[part.trunk].bank.path(0, 0.0, 0) for part in parts}) == 6
    search_in_process(run)
    assert not problem.missing_parts()
    finish_in_process(run, open_cohort(run))
    info = json.loads((run.model / "model.json").read_text())
    assert info["replay"]["bit_equal"]
    assert info["trunk_sha256"] == problem.frozen[5].trunk_sha256
    [training] = problem.development_training(CONFIGURATION).trainings
    model = load_model(run.model)
    training.head.load_trained(dict(model.network.named_parameters()))
    files = problem._maps.columns.paths[0][0]
    expected = training.represent(np.arange(len(files))).numpy()
    assert expected.std(axis=0).max() > 0.1, "all patients look alike, so the test says too little"
    found = model.predict({"reserve": files}).features
    assert np.abs(found - expected).mean() < 0.02 * expected.std()  # one of them is in bf16
    check_fold_models(run, model, files)
    third = second_step("third", transfer={"run": "../second"})
    with pytest.raises(RefusedError, match=r"the frozen trunk of \.\./second must be equal"):
        problem_of(third).check_weights()


def check_fold_models(run, model, files):
    """Those that judge the test patients are those that gave the out-of-fold predictions."""
    cohort = open_cohort(run)
    folds, images = cohort.split.folds, {"reserve": files}
    predict_others(run, read_study(run.study), cohort.split.development, images)
    best = json.loads(run.best.read_text())
    logits = read_out_of_fold(run.out_of_fold_of(best["trial"]))[best["epochs"] - 1]
    expected = logits[:, 1] - logits[:, 0]
    found = read_others(run.test / FOLDS)[np.arange(len(folds)), folds]
    assert np.abs(found - expected).mean() < 0.02 * expected.std()
    on_one_trunk = np.stack(model.predict_heads(images, fold_models(run)), axis=1)
    wrong = (on_one_trunk[..., 1] - on_one_trunk[..., 0])[np.arange(len(folds)), folds]
    assert np.abs(wrong - expected).mean() > 10 * np.abs(found - expected).mean()


def test_more_layers_start_from_the_backbone_where_the_first_step_trained_none(
    first_step, second_step
):
    problem = problem_of(second_step(**{"network.trainable_layers": 4}))
    [frozen] = problem.frozen
    state = load_file(first_step.model / "folds" / "2.safetensors")
    trained = problem.cross_validation(CONFIGURATION).trainings[2].head.trained()
    backbone = frozen.network.state_dict()
    fresh = set(trained) - set(state)
    assert fresh
    for name in set(trained) - set(CLASSIFIER):
        assert torch.equal(trained[name], backbone[name] if name in fresh else state[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cohort.split": {"test": 12, "seed": 1}}, "cohort.split of ../first must be equal"),
        ({"cohort.inputs": ["rest"]}, "cohort.inputs of ../first must be equal"),
        ({"network.image_size": 48}, "network of ../first must be equal"),
        ({"network.weights": "random"}, "the frozen trunk of ../first must be equal"),
    ],
)
def test_another_split_map_or_network_is_refused(second_step, changes, message):
    with pytest.raises(RefusedError, match=message):
        problem_of(second_step(**changes)).check_weights()


def test_a_run_without_a_model_is_refused(make_run):
    run = make_run("second", **FIXED, transfer={"run": "../nowhere"})
    with pytest.raises(InputError, match=r"\.\./nowhere holds no trained model. Run that study"):
        problem_of(run).check_weights()


@pytest.mark.parametrize("damage", ["missing", "exchanged"])
def test_a_fold_model_that_is_not_the_trained_one_is_refused(first_step, second_step, damage):
    folds = first_step.model / "folds"
    if damage == "missing":
        (folds / "3.safetensors").unlink()
    else:
        (folds / "3.safetensors").write_bytes((folds / "2.safetensors").read_bytes())
    with pytest.raises(RefusedError, match="the model of fold 4 is missing or is not the one"):
        problem_of(second_step()).cross_validation(CONFIGURATION)
