"""From the log of the search to the configuration that is kept."""

from __future__ import annotations

from analysis.choose.choice import Selection, choose
from analysis.choose.export import write_selection
from cohort.split import read_split
from spaces.run_files import RunFiles
from spaces.study import read_study
from spaces.trial_log import read_trials


def select(run: RunFiles) -> Selection:
    """Choose the configuration and write best.yaml, best/1..5.yaml and best.json.

    Which rule is primary stands in the study file, before the test set is opened. Running it again
    writes the same bytes.

    Raises:
        NoCompleteTrialError: no trial trained all its epochs.
    """
    study = read_study(run.study)
    selection = choose(study, read_trials(run.trials))
    write_selection(run, study, selection, split_sha256=read_split(run.split).sha256)
    return selection
