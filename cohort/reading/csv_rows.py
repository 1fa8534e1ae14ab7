"""The cells of a csv file as text, with the row numbers that a spreadsheet shows."""

from __future__ import annotations

import csv
import hashlib
import io
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from spaces.errors import InputError

MOST_BYTES = 4 * 1024**3
"""Of a table: a million patients with 500 columns have less."""
MISSING = ("", "na", "n/a", "nan", "null", "none")
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # first bytes of .xlsx and .xls
_DECIMAL_COMMA = r"^([+-]?[0-9]*),([0-9]+([eE][+-]?[0-9]+)?)$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True, eq=False, repr=False)
class CsvRows:
    """A csv file, every cell as text without surrounding blanks; blank lines are left out.

    Attributes:
        cells: one string column a name.
        numbers: (n,) integers, the row as a spreadsheet shows it; the header is row 1.
        sha256: of the file's bytes.
    """

    cells: pa.Table
    numbers: np.ndarray
    sha256: str

    @property
    def names(self) -> list[str]:
        """The header."""
        return list(self.cells.column_names)

    def text(self, name: str) -> pa.ChunkedArray:
        """Return a column as text."""
        return self.cells.column(name)

    def keep(self, kept: np.ndarray) -> CsvRows:
        """Return the rows where ``kept``, bool (n,), is true."""
        return CsvRows(self.cells.filter(pa.array(kept)), self.numbers[kept], self.sha256)


def read_rows(path: Path) -> CsvRows:
    """Read a csv file with a header, UTF-8, as Excel exports it.

    Cells are separated by commas; or by semicolons, as where the comma is the decimal mark, which
    is then read as a point.

    Raises:
        InputError: the file is missing or unreadable, or a row has too few or too many cells. The
            message holds no cell.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(path.name, "the cohort table must be a file", "Check cohort.path")
        if status.st_size > MOST_BYTES:
            problem = f"the cohort table has {status.st_size / 1024**3:.0f} GB, at most 4 are read"
            raise InputError(path.name, problem, "Leave out the columns that no study needs")
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise InputError(
            path.name, f"the cohort table cannot be read ({reason})", "Check cohort.path"
        ) from None
    cells, uneven, blank = _parse(content, path.name)
    if uneven:
        uneven_rows = ", ".join(str(number) for number in uneven[:10])
        raise InputError(
            f"{path.name} row {uneven_rows}",
            f"each row must have as many cells as the header, {len(uneven)} have not",
            "A comma inside a cell needs quotes; a cut-off last row means a damaged file",
        )
    numbers = np.setdiff1d(np.arange(2, 2 + cells.num_rows + len(blank)), blank)
    rows = CsvRows(cells, numbers, hashlib.sha256(content).hexdigest())
    return rows.keep(~_wholly_empty(cells))


def _parse(content: bytes, name: str) -> tuple[pa.Table, list[int], list[int]]:
    """Return the trimmed cells, the numbers of uneven rows and those of blank lines."""
    text = _decode(content, name)
    separator = _separator(text)
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error:
        header = []
    if not header:
        raise InputError(name, "the file holds no header row", "Write the column names in row 1")
    if len(header) == 1 and "\t" in header[0]:
        problem = "the cells must be separated by commas or semicolons, got tabs"
        raise InputError(f"{name} row 1", problem, "Save it as 'CSV UTF-8'")
    uneven: list[int] = []
    blank: list[int] = []

    def note(row: Any) -> str:
        (uneven if row.text.strip() else blank).append(row.number)
        return "skip"

    try:
        table = pa.csv.read_csv(
            io.BytesIO(text.encode()),
            read_options=pa.csv.ReadOptions(use_threads=False),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        raise InputError(
            name, "the file cannot be parsed as csv", "Look for a quote that is never closed"
        ) from None
    names = [column.strip() for column in header]
    trimmed = [pc.utf8_trim_whitespace(column) for column in table.columns]
    if separator == ";":
        trimmed = [pc.replace_substring_regex(one, _DECIMAL_COMMA, r"\1.\2") for one in trimmed]
    return pa.table(trimmed, names=names), uneven, blank


def _separator(text: str) -> str:
    """Return what separates the cells of the first row: a comma, unless it has more semicolons.

    Excel takes the separator from the computer's region, whatever its dialogue says.
    """
    first = text.partition("\n")[0]
    return ";" if first.count(";") > first.count(",") else ","


def _decode(content: bytes, name: str) -> str:
    """Return the text without its byte-order mark; nothing but UTF-8 is guessed at."""
    remedy = "Save it as 'CSV UTF-8'"
    if content.startswith(_WORKBOOKS):
        problem = "the table must be a CSV file, got an Excel workbook"
        raise InputError(name, problem, "In Excel: Save as, CSV UTF-8; then give that file")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in content:
        raise InputError(name, "the file must be UTF-8 text, got UTF-16 or binary data", remedy)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name} line {line}",
            f"the file must be UTF-8 text, got byte {content[error.start]:#04x} (Latin-1?)",
            remedy,
        ) from None


def _wholly_empty(cells: pa.Table) -> np.ndarray:
    empty = np.ones(cells.num_rows, dtype=bool)
    for column in cells.columns:
        empty &= as_bool(pc.equal(column, ""))
        if not empty.any():
            break
    return empty


def as_bool(mask: Any) -> np.ndarray:
    """Return an Arrow mask without nulls as a bool array."""
    return np.asarray(mask.to_numpy(), dtype=bool)


def is_missing(column: pa.ChunkedArray) -> np.ndarray:
    """Return where a text column is empty or says NA, NaN, null or none (any case)."""
    return as_bool(pc.is_in(pc.utf8_lower(column), value_set=pa.array(MISSING)))


def parse_numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return a text column as float64 (n,), nan where missing, and bool (n,) where it is no number.

    Infinite values count as no numbers.
    """
    matches = pc.match_substring_regex(column, _NUMBER)
    unsigned = pc.replace_substring_regex(column, r"^\+", "")
    parsed = pc.cast(pc.if_else(matches, unsigned, None), pa.float64())
    values = np.array(parsed.to_numpy(), dtype=np.float64)
    broken = ~is_missing(column) & ~np.isfinite(values)
    values[broken] = np.nan
    return values, broken
