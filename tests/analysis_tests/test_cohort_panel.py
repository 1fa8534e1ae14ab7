"""Who the patients are, in the report: nothing of test patients before the opening, no patient."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from finished_run import Run, add_model, build_run, copy_run, draw_cohort, fake_loading
from report_page import Page, write
from scipy import stats

from analysis.choose.select import select
from analysis.judge.characteristics import characteristics_of, compare_classes, hide, words_of
from analysis.judge.evaluate import evaluate
from analysis.report.cohort_panel import show_patients
from analysis.report.findings import read_findings
from analysis.statistics.cohort_tables import compare_groups
from cohort.patient_key import hash_ids, read_key
from cohort.segments import segment_columns
from cohort.split import read_split
from cohort.table import read_cohort
from spaces.run_files import read_json
from spaces.sections import DerivedTarget


def add_covariates(path) -> None:
    frame = pd.read_csv(path)
    generator = np.random.default_rng(8)
    n = len(frame)
    frame["age"] = generator.normal(66, 10, n).round(1)
    frame["sex"] = generator.integers(0, 2, n)
    frame["calcium_score"] = generator.lognormal(4, 1.5, n).round()
    frame.loc[::5, "calcium_score"] = np.nan
    frame.loc[[2, 3, 50], "sex"] = np.nan
    frame["stent"] = (np.arange(n) < 4).astype(int)
    frame["valve"] = (np.arange(n) % 9 == 0).astype(int)
    frame["ward"] = generator.choice(["Zonneveld", "Duinzicht"], n)
    frame[segment_columns("rest_mbf")] = generator.normal(1, 0.2, (n, 17)).round(4)
    frame.to_csv(path, index=False)


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> Run:
    """A judged run whose cohort has covariates. Read only."""

    def draw_with_covariates(folder, *, segments=True):
        path = draw_cohort(folder, segments=segments)
        add_covariates(path)
        return path

    with pytest.MonkeyPatch.context() as patch:
        run = build_run(tmp_path_factory.mktemp("described"), drawn_by=draw_with_covariates)
        add_model(run)
        fake_loading(run, patch)
        select(run.files)
        evaluate(run.files, run.cohort)
    return run


@pytest.fixture
def fresh(described: Run, tmp_path) -> Run:
    return copy_run(described, tmp_path)


def table(run: Run, name: str) -> pd.DataFrame:
    return pd.read_csv(run.files.root / "report" / f"{name}.csv").set_index("characteristic")


@pytest.mark.usefixtures("no_figures")
def test_the_table_of_sets_is_that_of_the_patients(fresh: Run) -> None:
    write(fresh)
    found, rows = table(fresh, "patients_by_set"), pd.read_csv(fresh.csv)
    split = read_split(fresh.files.split)
    is_test = np.isin(hash_ids(read_key(fresh.csv), rows["patient_id"]), split.test)
    parts = {"development": rows[~is_test], "test": rows[is_test]}
    mfr = "mfr, mean of 17 segments"
    assert set(found.index) == {
        *("impaired", "age", "sex", "calcium_score", "stent", "valve"),
        *(mfr, "rest_mbf, mean of 17 segments"),
    }
    for group, its in parts.items():
        assert found.loc["valve", f"{group}_count"] == its["valve"].sum()
        assert found.loc["age", f"{group}_mean"] == pytest.approx(its["age"].mean())
        assert found.loc["age", f"{group}_sd"] == pytest.approx(its["age"].std())
        assert found.loc["calcium_score", f"{group}_median"] == its["calcium_score"].median()
        assert found.loc["calcium_score", f"{group}_missing"] == its["calcium_score"].isna().sum()
        mean = its[segment_columns("mfr")].mean(axis=1).mean()
        assert found.loc[mfr, f"{group}_mean"] == pytest.approx(mean)
    ages = stats.ttest_ind(*(its["age"] for its in parts.values()))
    assert found.loc["age", "p"] == pytest.approx(ages.pvalue)
    scores = stats.mannwhitneyu(*(its["calcium_score"].dropna() for its in parts.values()))
    assert found.loc["calcium_score", "mann_whitney_p"] == pytest.approx(scores.pvalue)
    assert found["mann_whitney_p"].notna().sum() == 1
    assert (found["origin"] == "test/metrics.json").all()


@pytest.mark.usefixtures("no_figures")
def test_the_table_of_classes_is_of_labelled_development_patients(fresh: Run) -> None:
    text = write(fresh)
    found, development = table(fresh, "patients_by_target"), fresh.cohort.development
    assert "impaired" not in found.index
    age = development.covariates["age"]
    for group, value in (("negative", 0), ("positive", 1)):
        its = age[development.target == value]
        assert found.loc["age", f"{group}_n"] == len(its)
        assert found.loc["age", f"{group}_mean"] == pytest.approx(its.mean())
    assert "Development patients by impaired" in text


def test_the_unlabelled_are_left_out_and_counted(fresh: Run) -> None:
    development = fresh.cohort.development
    target = development.target.copy()
    target[:3] = np.nan
    development = dataclasses.replace(development, target=target)
    cohort = dataclasses.replace(fresh.cohort, development=development)
    by_target, _ = show_patients(fresh.files, cohort, read_findings(fresh.files, cohort)).tables
    assert sum(n for _, n in by_target.groups) == len(development) - 3
    assert by_target.notes[0] == "Without a label, and left out: 3."


def test_a_derived_target_is_said_to_differ_by_definition(fresh: Run) -> None:
    rule = "target: impaired\n  derive: {impaired: {below: 2.0}}"
    fresh.edit_study("target: impaired", rule)
    found = read_findings(fresh.files, fresh.cohort)
    note = show_patients(fresh.files, fresh.cohort, found).tables[0].notes[0]
    assert note.startswith("The target is derived from mfr, so")


@pytest.mark.usefixtures("no_figures")
def test_the_table_of_classes_does_not_depend_on_test_patients(fresh: Run) -> None:
    write(fresh)
    before = table(fresh, "patients_by_target")
    rows = pd.read_csv(fresh.csv)
    is_test = np.isin(hash_ids(read_key(fresh.csv), rows["patient_id"]), fresh.cohort.split.test)
    columns = ["age", "calcium_score", *segment_columns("mfr")]
    rows.loc[is_test, columns] = np.random.default_rng(2).uniform(0, 9, (is_test.sum(), 19))
    rows.to_csv(fresh.csv, index=False)
    split = read_split(fresh.files.split)
    fresh.cohort = read_cohort(fresh.study, fresh.files.root, split=split, verify_images=False)
    write(fresh)
    pd.testing.assert_frame_equal(table(fresh, "patients_by_target"), before)


@pytest.mark.usefixtures("no_figures")
def test_before_the_opening_nothing_is_said_of_test_patients(fresh: Run) -> None:
    fresh.files.metrics.unlink()
    text = write(fresh)
    assert "characteristics are sealed until the test set is opened" in text
    assert (fresh.files.root / "report" / "patients_by_target.csv").is_file()
    assert not (fresh.files.root / "report" / "patients_by_set.csv").exists()
    assert text.count("<table") == text.count("</table>")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.slow
def test_the_caption_says_that_a_random_split_differs_by_chance(fresh: Run) -> None:
    assert "within each class of impaired, which evens that row out: all other" in write(fresh)
    fresh.edit_study("folds: 5, stratify: true", "folds: 5")
    assert "drawn at random: differences are chance by design" in write(fresh)
    fresh.edit_study("folds: 5}", "folds: 5, column: part}")
    assert "given by the column part: whether" in write(fresh)


@pytest.mark.usefixtures("no_figures")
def test_the_page_says_counts_tests_and_doubts_and_shows_no_words(fresh: Run) -> None:
    text = write(fresh)
    Page(text.replace("<svg></svg>", ""))
    shown = text[text.index('class="characteristics"') : text.index('id="discrimination"')]
    for said in (
        "calcium score",
        "χ²",
        ">t<",
        ">U<",
        "† A count below 5 is expected",
        "known in ",
    ):
        assert said in shown
    assert "hold words: ward." in shown
    everything = "".join(path.read_text() for path in fresh.files.root.glob("report/*")) + text
    assert "Zonneveld" not in everything
    assert "secret" not in everything


@pytest.mark.usefixtures("no_figures")
def test_counts_below_five_stand_nowhere_and_follow_from_nothing(fresh: Run) -> None:
    """Four patients have a stent, three have an unknown sex; the target's counts are everywhere."""
    page, withheld = write(fresh), 0
    for name in ("patients_by_set", "patients_by_target"):
        found = table(fresh, name)
        numbers = found.loc["stent"].drop(["kind", "test", "origin", "withheld"])
        assert numbers.isna().all()
        assert found.loc["stent", "withheld"]
        withheld += int(found["withheld"].sum())
        for column in found.columns[found.columns.str.endswith(("_n", "_missing", "_count"))]:
            others = found[column].drop("impaired", errors="ignore")
            assert not others.between(1, 4).any(), column
    shares = table(fresh, "patients_by_set").loc["sex"]
    assert np.isnan(shares["development_count"])
    assert round(shares["development_share"], 2) == shares["development_share"]
    assert page.count("<td>not shown</td>") == 2 * withheld
    assert "fewer than 5 patients of a group have it, lack it or are known" in page
    assert "not known of all" in page
    rows = read_json(fresh.files.metrics, "metrics")["patients"]["rows"]
    [stent] = [row for row in rows if row["name"] == "stent"]
    assert {value for its in stent["groups"].values() for value in its.values()} == {None}
    assert stent["p"] is None
    assert stent["standardised_difference"] is None


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ((5, 40), (5, 20), False),
        ((4, 40), (9, 20), True),
        ((0, 40), (9, 20), True),
        ((9, 40), (16, 20), True),  # four lack it
        ((36, 40), (9, 20), True),
        ((0, 0), (9, 20), False),  # known of nobody: no count of anybody
    ],
)
def test_a_row_is_hidden_if_few_of_a_group_have_or_lack_it(
    first: tuple[int, int], second: tuple[int, int], hidden: bool
) -> None:
    values = [1.0] * first[0] + [0.0] * (first[1] - first[0]) + [np.nan] * (40 - first[1])
    values += [1.0] * second[0] + [0.0] * (second[1] - second[0])
    [row] = compare_groups(pd.DataFrame({"stent": values}), np.arange(60) >= 40, ("a", "b"))
    found = hide(dataclasses.asdict(row))
    assert found.get("withheld", False) is hidden
    counts = [its["count"] for its in found["groups"].values()]
    assert counts == ([None, None] if hidden else [its.count for its in row.groups.values()])


def test_the_mean_of_less_than_five_patients_is_hidden_too() -> None:
    values = [50.0, 60.0, 70.0, 80.0, *[np.nan] * 36, *range(60, 80)]
    [row] = compare_groups(pd.DataFrame({"age": values}), np.arange(60) >= 40, ("a", "b"))
    found = hide(dataclasses.asdict(row))
    assert found["withheld"]
    assert {value for its in found["groups"].values() for value in its.values()} == {None}


def test_metrics_hold_summaries_and_no_row(described: Run) -> None:
    patients = read_json(described.files.metrics, "metrics")["patients"]
    assert patients.keys() == {"n", "rows"}
    assert patients["n"] == {"development": 80, "test": 40}
    for row in patients["rows"]:
        assert row["groups"].keys() == {"development", "test"}
        for summary in row["groups"].values():
            assert all(its is None or isinstance(its, int | float) for its in summary.values())


def test_targets_the_study_can_derive_stand_beside_the_target(described: Run) -> None:
    rules = {
        "low_LAD": DerivedTarget(below=2.4, segments="LAD"),
        "low_elsewhere": DerivedTarget(below=2.4, columns="no_such_columns"),
        "age": DerivedTarget(below=2.4),
    }
    section = described.study.cohort.model_copy(update={"derive": rules})
    study = described.study.model_copy(update={"cohort": section})
    development = described.cohort.development
    found = characteristics_of(study, development)
    assert list(found)[:3] == ["impaired", "low_LAD", "age"]
    assert found["age"].mean() > 50  # the column that is there, not the one derived
    lad = development.segments[:, [0, 1, 6, 7, 12, 13, 16]]
    known = np.isfinite(lad).all(axis=1)
    assert (found["low_LAD"][known] == (lad[known] < 2.4).any(axis=1)).all()
    assert not set(segment_columns("rest_mbf")) & set(found)


def test_without_segments_or_covariates_it_says_so(run_without_segments: Run) -> None:
    run = run_without_segments
    assert compare_classes(run.study, run.cohort.development)["rows"] == []
    assert words_of(run.cohort.development) == []
    assert "no further columns of numbers" in write(run)
