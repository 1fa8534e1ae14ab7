"""Tables for spreadsheets, by the one function that writes any: no cell of them is computed."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from spaces.run_files import replacing

# A spreadsheet takes a cell that begins so for a formula, after white space too; Japanese ones also
# where the sign is a wide one.
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(rf"^(?=\s*[{_SIGNS}])")
# Where the comma is the decimal mark, Excel ends cells at semicolons and rows at line breaks,
# quoted or not.
_BREAKS = re.compile(r"[\r\n\v\f\u2028\u2029]+")
_AFTER_SEMICOLON = re.compile(rf";(?=\s*[{_SIGNS}])")


def write_csv(path: Path, frame: pd.DataFrame, *, float_format: str | None = None) -> None:
    """Write a table without its index, whole or not at all; no cell of it is a formula.

    Args:
        path: the file.
        frame: one column a name; texts get an apostrophe before what begins a formula.
        float_format: as ``to_csv`` takes it; the shortest text that reads back equal by default.
    """
    texts = frame.select_dtypes(exclude=["number", "bool"]).columns
    safe = frame.assign(**{str(name): frame[name].map(as_text) for name in texts})
    with replacing(path) as partial:
        safe.rename(columns=as_text).to_csv(partial, index=False, float_format=float_format)


def as_text(cell: object) -> object:
    """Return a cell that no spreadsheet computes, on one line; anything but a text unchanged.

    >>> as_text("=1+1"), as_text("a; =1+1"), as_text("logit-DeLong"), as_text(-1.5)
    ("'=1+1", "a;' =1+1", 'logit-DeLong', -1.5)
    """
    if not isinstance(cell, str):
        return cell
    return _AFTER_SEMICOLON.sub(";'", _FORMULA.sub("'", _BREAKS.sub(" ", cell)))
