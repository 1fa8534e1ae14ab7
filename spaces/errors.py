"""The errors a user may see, and the exit codes of the command line."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

DONE = 0
BAD_INPUT = 2
SOME_TRIALS_FAILED = 3
NO_COMPLETE_TRIAL = 4
REFUSED = 5
INTERRUPTED = 130
TERMINATED = 143
SHOWN = 80
"""Characters of a wrong value that an error repeats."""


class UserError(Exception):
    """Something the user can mend; the command line prints it on one line, without a traceback.

    Attributes:
        where: the place: ``study.yaml:14 space.learning_rate`` or ``cohort.csv row 7 reserve``.
        problem: the rule and the value that breaks it: ``low must be > 0 on a log scale, got 0.0``.
        remedy: what to do about it.
    """

    exit_code = BAD_INPUT

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where = where
        self.problem = problem
        self.remedy = remedy
        ending = "" if remedy.endswith("?") else "."
        text = f"{where}: {problem}." + (f" {remedy}{ending}" if remedy else "")
        super().__init__(on_one_line(text))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        """Keep the three parts when the error travels between processes."""
        return type(self), (self.where, self.problem, self.remedy)


class InputError(UserError):
    """A study file, cohort, image or weights file breaks a rule (exit code 2)."""


class NoModelError(InputError):
    """This study gives no model, for a reason of its own; another beside it may."""


class RefusedError(UserError):
    """Going on would break a promise: a lock is held, or a hash differs (exit code 5)."""

    exit_code = REFUSED


class RayLostError(UserError):
    """The Ray that the work runs on has ended; the work can be continued (exit code 143)."""

    exit_code = TERMINATED


class NoCompleteTrialError(UserError):
    """The search ended without one complete trial, so nothing can be selected (exit code 4)."""

    exit_code = NO_COMPLETE_TRIAL


def on_one_line(text: str) -> str:
    r"""Return a text that a terminal shows as it is: line breaks and controls as escapes.

    Names in errors come from files, and a file may be a stranger's.

    >>> print(on_one_line("two\nlines, red \x1b[31m"))
    two\nlines, red \x1b[31m
    """
    return "".join(
        sign if sign.isprintable() or unicodedata.category(sign) == "Zs" else repr(sign)[1:-1]
        for sign in text
    )


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``did you mean 'x'`` for the closest valid name, else up to 12 of the valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"Use one of: {', '.join(names[:12])}{more}"
