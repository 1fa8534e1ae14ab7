"""A trained model, judged on the phantoms of another centre by the command that a user runs."""

import shutil

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from small_runs import SIZE
from typer.testing import CliRunner

from analysis.use.model_card import describe_model
from analysis.use.predict import find_model, predict, read_request
from cohort.drawing.phantom import draw_phantom
from polartune.commands import app
from spaces.errors import DONE, REFUSED, RefusedError
from spaces.run_files import RunFiles, read_json, write_json

PATIENTS = 40


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> RunFiles:
    """A copy of the trained run that the command line takes for one."""
    copied = RunFiles(tmp_path_factory.mktemp("elsewhere") / "first")
    shutil.copytree(trained.root, copied.root)
    write_json(copied.environment, "environment", {"sessions": []})
    return copied


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, RefusedError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, " ".join(result.output.split()) or repr(result.exception)


@pytest.mark.slow
def test_another_centres_phantoms_are_judged_reported_and_named_on_the_card(
    run, phantom, tmp_path
) -> None:
    other = draw_phantom(tmp_path / "oslo", patients=PATIENTS, seed=9, size=SIZE, ceiling=False)
    code, said = invoke("evaluate", run.root, "--cohort", other)
    assert code == DONE, said
    metrics = read_json(run.external / "oslo" / "metrics.json", "metrics")
    assert f"On {PATIENTS} patients ({metrics['positives']} positive)" in said
    assert "of the external cohort oslo, the model predicted impaired any" in said
    assert 0 <= metrics["unfamiliar"] <= PATIENTS

    # What it says of these patients is what predict says of them.
    table = pd.read_csv(other)
    found = predict(find_model(run.root), read_request([other], ["reserve"]))
    truth = (table.filter(regex=r"^mfr_\d\d$") < 2.0).any(axis=1)
    # By logits, for their probabilities round to 1: so ranks may differ by what rounding ties.
    expected = roc_auc_score(truth, found["probability"])
    assert metrics["model"]["auc"]["estimate"] == pytest.approx(expected, abs=0.05)
    predicted = found.filter(regex=r"^mfr_\d\d$").mean().mean()
    points = pd.read_csv(run.external / "oslo" / "bland_altman.csv")
    measured = table.filter(regex=r"^mfr_\d\d$").mean().mean()
    assert points["average"].mean() == pytest.approx((predicted + measured) / 2, abs=0.01)

    assert invoke("report", run.root)[0] == DONE
    page = run.report.read_text()
    assert "The cohort oslo" in page
    assert "These patients are phantoms" in page
    card = describe_model(run)
    assert "of the external cohort oslo" in card
    assert "no external validation" not in card

    code, said = invoke("evaluate", run.root, "--cohort", phantom)
    assert code == REFUSED
    assert "60 patients (rows 2, 3" in said
    assert "an image of the run's own cohort" in said
    assert sorted(path.name for path in run.external.iterdir()) == ["oslo"]
