"""What a run froze, judged on another cohort: nothing is fitted, and every look is counted."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from finished_run import Run
from other_cohort import Both, both_in, draw_other, paint
from PIL import Image
from report_page import write
from sklearn.metrics import roc_auc_score

import analysis.judge.evaluate as stage
from analysis.judge.answer import limits
from analysis.judge.baselines import predict_baseline
from analysis.judge.evaluate import Metrics
from analysis.judge.freeze import read_predictions
from analysis.statistics.metrics import log_odds_of
from cohort.patient_key import hash_ids, read_key
from cohort.segments import segment_columns
from spaces.errors import InputError, RefusedError, UserError
from spaces.run_files import read_json, sha256_of


@pytest.fixture(scope="session")
def pair(evaluated: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The judged run with pictures, and another cohort beside it. Read only."""
    folder = tmp_path_factory.mktemp("pair")
    shutil.copytree(evaluated.csv.parent.parent, folder, dirs_exist_ok=True)
    paint(folder / "cohort" / "cohort.csv", 1)
    draw_other(folder / "other")
    return folder


@pytest.fixture
def both(pair: Path, evaluated: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    return both_in(tmp_path, evaluated, monkeypatch)


@pytest.fixture(scope="module")
def judged(pair: Path, evaluated: Run, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The run after it was judged on the other cohort. Read only."""
    folder = tmp_path_factory.mktemp("external")
    shutil.copytree(pair, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        found = both_in(folder, evaluated, patch)
        found.judge()
    return found


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def test_the_frozen_model_and_regressions_are_measured_on_the_other_patients(judged: Both) -> None:
    metrics = read_json(judged.folder / "metrics.json", "metrics")
    table = pd.read_csv(judged.table)
    table = table[table["exclusion_reason"].isna()]
    logits, _ = read_predictions(judged.folder / "predictions.parquet")
    known = table["impaired"].notna().to_numpy()
    target = table["impaired"][known]
    assert (metrics["n"], metrics["missing"]) == (known.sum(), (~known).sum())
    assert (metrics["n"], metrics["missing"]) == (58, 1)
    assert metrics["positives"] == target.sum()
    assert metrics["flow"] == {"collected": 60, "excluded": {"moved": 1}, "included": 59}
    expected = roc_auc_score(target, log_odds_of(logits)[known])
    assert metrics["model"]["auc"]["estimate"] == pytest.approx(expected)
    frozen = read_json(judged.run.files.test / "baselines.json", "baselines")["models"]
    segments = table[segment_columns("mfr")].to_numpy()[known]
    for name, model in frozen.items():
        expected = roc_auc_score(target, predict_baseline(model, segments))
        assert metrics["baselines"][name]["auc"]["estimate"] == pytest.approx(expected)
        calls = metrics["baselines"][name]["thresholds"]
        assert calls["youden"]["threshold"] == model["youden"]
    thresholds = read_json(judged.run.files.frozen, "frozen")["thresholds"]
    for name, its in thresholds.items():
        assert metrics["model"]["thresholds"][name]["threshold"] == its
    assert metrics["calibration"]["test"]["slope"]["n"] == 58
    assert metrics["patients"]["n"] == {"development": 80, "external": 59}
    sentence = Metrics(metrics).sentence
    assert "On 58 patients (" in sentence
    assert "of the external cohort centre_b, the model predicted impaired" in sentence


def test_nothing_of_the_run_is_changed_by_it(judged: Both, pair: Path) -> None:
    before, after = digests(pair / "run"), digests(judged.run.files.root)
    new = {name for name in after if name not in before}
    names = ["bland_altman.csv", "frozen.json", "metrics.csv", "metrics.json"]
    names += ["predictions.parquet", "roc.csv"]
    assert sorted(new) == [f"external/centre_b/{name}" for name in names]
    assert {name: after[name] for name in before} == before
    assert digests(pair / "cohort") == digests(judged.run.csv.parent)


def test_no_patient_of_the_other_cohort_is_named(judged: Both) -> None:
    for path in [*judged.folder.iterdir(), judged.ledger]:
        assert b"hidden" not in path.read_bytes()


def test_predictions_are_frozen_and_the_opening_is_recorded_before_outcomes_are_joined(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = stage.open_outcomes

    def look(*arguments: object, **named: object) -> object:
        names = sorted(path.name for path in both.folder.iterdir())
        assert names == ["frozen.json", "predictions.parquet"]
        assert named["frozen_sha256"] == sha256_of(both.folder / "frozen.json")
        assert not both.ledger.exists()
        return opened(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "open_outcomes", look)
    content = both.judge().content
    assert (content["openings"], content["exploratory"]) == (1, False)
    assert len(both.ledger.read_text().splitlines()) == 2


def test_again_it_opens_nothing_and_after_a_change_it_is_exploratory(both: Both) -> None:
    first = both.judge().content
    before = digests(both.folder)
    assert both.judge().content == read_json(both.folder / "metrics.json", "metrics")
    assert digests(both.folder) == before
    assert len(both.ledger.read_text().splitlines()) == 2

    both.edit(lambda frame: frame.assign(mfr_01=frame["mfr_02"]))
    second = both.judge()
    assert (first["openings"], second.content["openings"]) == (1, 2)
    assert second.content["exploratory"]
    assert second.sentence.startswith("Exploratory (opening 2 of this test set): On 58 patients")


def drop(*names: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.drop(columns=list(names))


def only_healthy(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~frame["impaired"].str.startswith("1")]


def spoil(frame: pd.DataFrame) -> None:
    frame.loc[3, "impaired"] = "0.7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("reserve"), r"centre_b\.csv row 1: column 'reserve' is missing"),
        (drop("impaired"), r"centre_b\.csv row 1: column 'impaired' is missing"),
        (drop(*segment_columns("mfr")), "columns mfr_01 to mfr_17 are missing.*Call the 17"),
        (drop("mfr_04"), "16 of 17 segment columns 'mfr' are there, mfr_04 missing"),
        (only_healthy, "'impaired' must have patients of both"),
        (spoil, r"centre_b\.csv row 5 impaired: a target must be 0, 1 or empty"),
    ],
)
def test_a_table_that_does_not_fit_is_told_in_one_line_and_nothing_is_opened(
    both: Both, change: Callable[[pd.DataFrame], pd.DataFrame | None], message: str
) -> None:
    both.edit(change)
    with pytest.raises(InputError, match=message) as caught:
        both.judge()
    assert "0.7" not in str(caught.value), "a value of a sealed patient"
    assert not both.ledger.exists()
    assert not both.run.files.external.exists()


def copy_own_picture(both: Both, position: int, *, enlarged: bool = False) -> None:
    """Let the patient of row 6 have the picture of one of the run's own."""
    image = Image.open(both.run.csv.parent / "images" / f"{position}.png")
    if enlarged:
        image = image.resize((32, 32), Image.Resampling.NEAREST)
    image.save(both.table.parent / "images" / "4.png")


@pytest.mark.parametrize("part", ["development", "test"])
def test_patients_of_the_runs_own_cohort_are_refused_test_patients_too(
    both: Both, part: str
) -> None:
    hashes = hash_ids(read_key(both.run.csv), pd.read_csv(both.run.csv)["patient_id"])
    copy_own_picture(both, hashes.index(getattr(both.run.cohort.split, part)[3]))
    with pytest.raises(RefusedError, match=r"1 patient \(row 6\) has an image of the run's own"):
        both.judge()
    assert not both.ledger.exists()


def test_a_picture_exported_again_is_warned_of(both: Both) -> None:
    copy_own_picture(both, 7, enlarged=True)
    [warning] = both.judge().content["warnings"]
    assert warning.startswith("1 patient (row 6) has nearly the same picture as a patient of the")


def alter_model(both: Both) -> None:
    (both.run.files.model / "model.safetensors").write_bytes(b"other weights")


def alter_frozen(both: Both) -> None:
    text = both.run.files.frozen.read_text()
    both.run.files.frozen.write_text(text.replace('"half": 0.5', '"half": 0.4'))


def forget_metrics(both: Both) -> None:
    both.run.files.metrics.unlink()


def exchange_key(both: Both) -> None:
    both.judge()
    both.table.with_suffix(".key").unlink()


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (alter_model, RefusedError, "model.safetensors: is not the file that was frozen"),
        (alter_frozen, RefusedError, "frozen.json: is not the file that was frozen"),
        (forget_metrics, InputError, "was not judged on its own test set yet"),
        (exchange_key, RefusedError, "centre_b: holds results of another cohort of this name"),
    ],
)
def test_only_what_was_frozen_is_judged_and_no_result_is_overwritten_by_anothers(
    both: Both, change: Callable[[Both], None], kind: type[UserError], message: str
) -> None:
    change(both)
    with pytest.raises(kind, match=message):
        both.judge()


@pytest.fixture(scope="module")
def page(judged: Both) -> str:
    """The report of the run after it was judged on the other cohort."""
    with pytest.MonkeyPatch.context() as patch:
        for room in ("search_figures", "figures"):
            patch.setattr(f"analysis.report.{room}.svg_of", lambda *_: "<svg></svg>")
        return write(judged.run)


def test_the_report_has_a_section_with_n_interval_and_origin(judged: Both, page: str) -> None:
    metrics = read_json(judged.folder / "metrics.json", "metrics")
    section = page[page.index('<h2 id="external">') : page.index('<h2 id="search">')]
    interval = metrics["model"]["auc"]["intervals"]["logit_delong"]
    for said in (
        "External validation",
        f"On 58 patients ({metrics['positives']} positive) of the external cohort centre_b",
        "60 patients collected, 1 excluded, 1 without a label, 58 judged",
        limits(interval),
        f"n = 58, {metrics['positives']} positive",
        "AUC, model minus logistic regression, L2",
        "calibration slope (ideal 1)",
        "external/centre_b/metrics.json",
        "Development patients and centre_b",
    ):
        assert said in section
    assert 'href="#external"' in page
    assert "no external validation" not in page
    assert "External validation: centre_b (n = 58, opening 1 of these patients)" in page
    assert "beside its own cohort it was judged on centre_b." in page


def test_what_the_report_links_lies_there_and_names_nobody(judged: Both, page: str) -> None:
    root = judged.run.files.root
    links = {link for link in re.findall(r'href="([^"#]+)"', page) if "://" not in link}
    assert "external/centre_b/metrics.csv" in links
    assert "report/patients_external_centre_b.csv" in links
    assert all((root / link).is_file() for link in links if not link.endswith(".svg"))
    tables = "".join(path.read_text() for path in root.glob("report/*.csv"))
    assert "hidden" not in page + tables
    rows = pd.read_csv(root / "report" / "external.csv")
    assert set(rows["cohort"]) == {"centre_b"}
    assert set(rows["patients"]) == {"external"}
    auc = rows[(rows["quantity"] == "AUC, model") & (rows["method"] == "logit_delong")]
    metrics = read_json(judged.folder / "metrics.json", "metrics")
    assert auc["estimate"].item() == pytest.approx(metrics["model"]["auc"]["estimate"])
