"""The entry of the command line: errors on one line, signals as exit codes."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import NoReturn

import typer

from polartune.commands import app
from spaces import errors
from spaces.errors import UserError


def main() -> None:
    """Run the command line; never returns."""
    from spaces.environment import check_packages

    sys.excepthook = _explain_on_one_line
    threading.excepthook = _log
    signal.signal(signal.SIGTERM, _terminate)
    try:
        check_packages()
        typer.main.get_command(app)(prog_name="polartune")
    except UserError as error:
        sys.stderr.write(f"polartune: {error}\n")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code in {errors.INTERRUPTED, errors.TERMINATED}:
            sys.stderr.write("polartune: stopped. The same command goes on from here.\n")
        raise


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(errors.TERMINATED)


def _log(failed: threading.ExceptHookArgs) -> None:
    """Log what a library's thread raised; whoever waits for the thread is told, too."""
    if failed.exc_value is not None:
        error = (failed.exc_type, failed.exc_value, failed.exc_traceback)
        logging.getLogger("polartune").error("in a thread", exc_info=error)


def _explain_on_one_line(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an unexpected error shortly when its traceback stands in a run's log."""
    notes = getattr(error, "__notes__", [])
    if not notes:
        traceback.print_exception(kind, error, trace)
        return
    text = " ".join(str(error).split())
    sys.stderr.write(f"polartune: unexpected {kind.__name__}: {text}; {'; '.join(notes)}\n")


if __name__ == "__main__":
    main()
