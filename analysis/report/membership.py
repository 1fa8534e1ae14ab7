"""What a study is within its campaign, kept in its run directory for its own report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from spaces.run_files import RunFiles, read_json, write_json

FILE = "membership.json"
KIND = "membership"


@dataclass(frozen=True)
class Membership:
    """What a study is within its campaign.

    Attributes:
        campaign: its name.
        studies: how many it has.
        input: the short name of this study's input.
        headline_input: that of its target's input with the highest development score.
        family: studies of its step, whose p-values were corrected together.
        p_holm: of its test AUC by permuted labels, so corrected; None if it has no AUC.
    """

    campaign: str
    studies: int
    input: str
    headline_input: str
    family: int
    p_holm: float | None

    @property
    def is_headline(self) -> bool:
        """Whether its input is the headline one of its target; others are secondary."""
        return self.input == self.headline_input


def write_membership(run: RunFiles, membership: Membership) -> None:
    """Write test/membership.json of a judged study."""
    write_json(_path(run), KIND, asdict(membership))


def read_membership(run: RunFiles) -> Membership | None:
    """Return what a study is within its campaign; None if it was judged alone.

    Raises:
        InputError: the file is damaged.
        RefusedError: another version wrote it.
    """
    if not _path(run).exists():
        return None
    content = read_json(_path(run), KIND)
    return Membership(**{name: content[name] for name in Membership.__dataclass_fields__})


def _path(run: RunFiles) -> Path:
    return run.test / FILE
