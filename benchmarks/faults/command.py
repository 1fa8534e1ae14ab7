"""The command line of polartune as it is, with an opener that notes what slots compute.

``python -m benchmarks.faults.command run study.yaml``: nothing but the opener, and how much work
may be unsaved, differs from ``python -m polartune run study.yaml``.
"""

from __future__ import annotations

import os
from functools import partial

import search.run
from benchmarks.faults.problems import OPENER
from polartune.__main__ import main
from search.trial import UNSAVED_SECONDS

UNSAVED = "FAULTS_UNSAVED_SECONDS"

if __name__ == "__main__":
    seconds = float(os.environ.get(UNSAVED, UNSAVED_SECONDS))
    search.run.search = partial(search.run.search, opener=OPENER, unsaved_seconds=seconds)
    main()
