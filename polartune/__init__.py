"""polartune in a notebook: ``polartune.run`` does what the command does."""

from polartune.steps import run

__all__ = ["run"]
