"""A run that was trained and judged, for the tests that go on from there."""

import pytest
from in_process import FIXED, finish_in_process, open_cohort, search_in_process
from small_runs import prepare_run


@pytest.fixture(scope="session")
def trained(phantom, tmp_path_factory):
    run = prepare_run(tmp_path_factory.mktemp("trained"), phantom, "first", **FIXED)
    search_in_process(run)
    finish_in_process(run, open_cohort(run))
    return run
