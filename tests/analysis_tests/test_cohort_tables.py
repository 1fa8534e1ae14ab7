"""The cohort tables against scipy called plainly, against arithmetic by hand, and the paper's."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics.cohort_tables import (
    BINARY,
    CONTINUOUS,
    FEW_EXPECTED,
    compare_groups,
    kinds_of,
    pearson_p,
)

GROUPS = ("first", "second")


def compare(values, is_second, kind=None):
    table = pd.DataFrame({"it": values})
    [row] = compare_groups(
        table, np.asarray(is_second, bool), GROUPS, None if kind is None else {"it": kind}
    )
    return row


def table_of_counts(having, of):
    """0/1 values and groups from counts and sizes of both groups."""
    values = [1.0] * having[0] + [0.0] * (of[0] - having[0])
    values += [1.0] * having[1] + [0.0] * (of[1] - having[1])
    return np.array(values), np.arange(sum(of)) >= of[0]


# Yeung et al. 2022, table 2: 851 development and 93 test patients. The counts are reconstructed,
# not copied: of all whole counts that give the printed p-value and, under Yates' correction, .78,
# .44 and .28, these alone are within .001 of the prevalence in all 944.
@pytest.mark.parametrize(
    ("development", "test", "prevalence", "paper"),
    [
        pytest.param(114, 14, 0.136, 0.66, id="smoking"),
        pytest.param(286, 27, 0.332, 0.37, id="dyslipidaemia"),
        pytest.param(449, 43, 0.522, 0.23, id="hypertension"),
    ],
)
def test_the_papers_p_values_follow_from_its_counts(development, test, prevalence, paper) -> None:
    row = compare(*table_of_counts((development, test), (851, 93)))
    counts = [its.count for its in row.groups.values()]
    assert counts == [development, test]
    assert sum(counts) / 944 == pytest.approx(prevalence, abs=0.001)
    assert row.p == pytest.approx(paper, abs=0.02)
    cells = [[development, 851 - development], [test, 93 - test]]
    assert stats.chi2_contingency(cells).pvalue > paper + 0.02  # what Yates would have made of it


def test_counts_by_hand() -> None:
    """10 of 20 against 15 of 20: chi-squared 40 (10 * 5 - 10 * 15)^2 / (20 * 20 * 25 * 15)."""
    row = compare(*table_of_counts((10, 15), (20, 20)))
    first, second = row.groups.values()
    assert (first.count, first.n, first.share) == (10, 20, 0.5)
    assert (second.count, second.n, second.share) == (15, 20, 0.75)
    assert row.p == pytest.approx(stats.chi2.sf(8 / 3, 1))
    assert row.standardised_difference == pytest.approx(0.25 / np.sqrt((0.25 + 0.1875) / 2))
    assert (row.kind, row.test, row.doubt) == (BINARY, "Pearson chi-squared", None)
    assert first.mean is None
    assert row.mann_whitney_p is None


def test_means_by_hand() -> None:
    """1, 2, 3 against 4, 6, 8: t = -4 / sqrt((1 + 4) / 2 * 2 / 3), 4 degrees of freedom."""
    row = compare([1, 2, 3, 4, 6, 8, np.nan], [0, 0, 0, 1, 1, 1, 1])
    first, second = row.groups.values()
    assert (first.mean, first.sd, first.n, first.missing) == (2, 1, 3, 0)
    assert (second.mean, second.sd, second.n, second.missing) == (6, 2, 3, 1)
    assert (second.lower_quartile, second.median, second.upper_quartile) == (5, 6, 7)
    assert row.p == pytest.approx(2 * stats.t.sf(4 / np.sqrt(5 / 3), 4))
    assert row.standardised_difference == pytest.approx(4 / np.sqrt(2.5))
    assert (row.kind, row.test) == (CONTINUOUS, "Student t")
    assert not row.is_skewed


@pytest.mark.parametrize("seed", range(3))
def test_every_p_value_is_scipys(seed) -> None:
    generator = np.random.default_rng(seed)
    is_second = generator.random(150) < 0.3
    normal = generator.normal(60 + 2 * is_second, 10, 150)
    skewed = generator.lognormal(0.2 * is_second, 1.2, 150)
    skewed[:4] = np.nan
    row, other = compare(normal, is_second), compare(skewed, is_second)
    expected = stats.ttest_ind(normal[~is_second], normal[is_second], equal_var=True)
    assert row.p == pytest.approx(expected.pvalue)
    assert row.mann_whitney_p is None
    parts = [part[np.isfinite(part)] for part in (skewed[~is_second], skewed[is_second])]
    assert other.p == pytest.approx(stats.ttest_ind(*parts).pvalue)
    assert other.mann_whitney_p == pytest.approx(stats.mannwhitneyu(*parts).pvalue)
    deviations = pd.Series(np.concatenate([part - part.mean() for part in parts]))
    assert other.skewness == pytest.approx(deviations.skew())
    assert other.is_skewed


def test_two_groups_far_apart_are_not_skewed_for_that() -> None:
    """20 low values and 3 high ones: their pool is skewed, each group is not."""
    values = np.concatenate([np.linspace(0, 1, 20), [50, 50.5, 51]])
    assert stats.skew(values) > 2
    row = compare(values, np.arange(23) >= 20)
    assert not row.is_skewed
    assert row.mann_whitney_p is None


def test_left_skewed_values_count_as_skewed() -> None:
    values = -np.random.default_rng(0).lognormal(0, 1.2, 80)
    row = compare(values, np.arange(80) % 2)
    assert row.skewness < -1
    assert row.mann_whitney_p is not None


def test_few_expected_counts_are_said() -> None:
    row = compare(*table_of_counts((3, 2), (30, 12)))
    assert row.doubt == FEW_EXPECTED
    assert compare(*table_of_counts((15, 6), (30, 12))).doubt is None
    assert compare(*table_of_counts((0, 20), (40, 40))).doubt is None  # 10 are expected, 0 found


@pytest.mark.parametrize(
    ("values", "is_second", "kind"),
    [
        pytest.param([1, 1, 1, 1], [0, 0, 1, 1], BINARY, id="everybody has it"),
        pytest.param([0, 1, np.nan, np.nan], [0, 0, 1, 1], BINARY, id="unknown in one group"),
        pytest.param([5, 5, 5, 5], [0, 0, 1, 1], CONTINUOUS, id="no spread"),
        pytest.param([5, 7, np.nan, np.nan], [0, 0, 1, 1], CONTINUOUS, id="no values in one group"),
        pytest.param([5, 7], [0, 1], CONTINUOUS, id="one patient each"),
        pytest.param([5, 7], [0, 0], CONTINUOUS, id="an empty group"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_tested_has_no_p_value(values, is_second, kind) -> None:
    row = compare(np.array(values, float), is_second, kind)
    assert (row.p, row.mann_whitney_p, row.doubt) == (None, None, None)
    assert row.standardised_difference is None


def test_no_p_value_of_counts_without_both_answers() -> None:
    assert pearson_p((0, 20), (0, 30)) is None
    assert pearson_p((20, 20), (30, 30)) is None


def test_kinds_and_columns_without_any_value() -> None:
    table = pd.DataFrame(
        {"sex": [0, 1, np.nan], "vessels": [0, 1, 2.0], "empty": [np.nan] * 3, "all": [1.0] * 3}
    )
    assert kinds_of(table[["sex", "vessels", "all"]]) == {
        "sex": BINARY,
        "vessels": CONTINUOUS,
        "all": BINARY,
    }
    rows = compare_groups(table, np.array([False, True, True]), GROUPS)
    assert [row.name for row in rows] == ["sex", "vessels", "all"]
