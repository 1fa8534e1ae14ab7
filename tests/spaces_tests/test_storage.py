"""Storage that goes away or is full costs no line of the log, and begins no second one."""

import errno
import os
import resource
import signal

import pytest

from spaces.errors import InputError
from spaces.parameters import Configuration
from spaces.storage import AWAY_SECONDS, is_away, outlasting
from spaces.trial_log import TrialLog, read_trials

CONFIGURATION = Configuration(0.5, 1e-3, 1e-2, 0.5)


class Server:
    """Answers after so many seconds of a clock that only waiting moves."""

    def __init__(self, away: float, number: int) -> None:
        self.away, self.number, self.now = away, number, 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> str:
        if self.now < self.away:
            raise OSError(self.number, os.strerror(self.number))
        return "here"

    def outlast(self) -> str:
        return outlasting(self.read, clock=lambda: self.now, sleep=self.sleep)


def test_storage_that_is_away_for_a_while_is_waited_for():
    assert Server(AWAY_SECONDS - 1, errno.ESTALE).outlast() == "here"


def test_storage_that_stays_away_is_an_error():
    server = Server(10 * AWAY_SECONDS, errno.ENOENT)
    with pytest.raises(OSError, match="No such file"):
        server.outlast()
    assert server.now == pytest.approx(AWAY_SECONDS, abs=1.0)


def test_a_full_disk_is_not_waited_for():
    server = Server(1.0, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        server.outlast()
    assert server.now == 0.0


def told_in_other_words(number):
    try:
        Server(1.0, number).read()
    except OSError:
        raise InputError("cohort.csv", "cannot be read", "Put it back") from None


@pytest.mark.parametrize(("number", "away"), [(errno.ESTALE, True), (errno.ENOSPC, False)])
def test_an_error_that_was_told_in_other_words_is_known_by_what_was_behind_it(number, away):
    with pytest.raises(InputError) as caught:
        told_in_other_words(number)
    assert is_away(caught.value) is away
    assert not is_away(InputError("study.yaml", "low must be > 0", ""))
    assert not is_away(OSError("a page of a file is damaged"))


@pytest.fixture
def only_so_long():
    """Limits how long files may grow, for this process, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_line_that_does_not_fit_leaves_none_of_itself(tmp_path, only_so_long):
    log = TrialLog(tmp_path / "trials.jsonl")
    log.asked(0, CONFIGURATION, "default")
    whole = log.path.read_bytes()
    only_so_long(len(whole) + 20)
    with pytest.raises(InputError, match=r"trials\.jsonl: cannot be written \(File too large\)"):
        log.asked(1, CONFIGURATION, "sampler")
    assert log.path.read_bytes() == whole
    only_so_long(10**6)
    log.asked(1, CONFIGURATION, "sampler")
    assert [trial.number for trial in read_trials(log.path)] == [0, 1]


def test_no_second_log_begins_where_the_first_has_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("spaces.trial_log.outlasting", lambda work: work())
    log = TrialLog(tmp_path / "trials.jsonl")
    log.path.rename(tmp_path / "away")
    with pytest.raises(InputError, match="cannot be written"):
        log.asked(0, CONFIGURATION, "default")
    assert not log.path.exists()
