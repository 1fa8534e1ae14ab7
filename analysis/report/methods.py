"""What was done to the maps before the network saw them, in words."""

from __future__ import annotations

from analysis.judge.answer import SPACE
from spaces.parameters import Choices
from spaces.study import Study

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def say_preparation(study: Study) -> str:
    """Return how the maps of a study were prepared and augmented."""
    size = study.network.image_size
    prepared = (
        f"Maps were read as RGB, resized to {size} \N{MULTIPLICATION SIGN} {size} pixels "
        "(bilinearly) and standardised as the backbone was trained. "
    )
    section, drop, strength = (
        study.augmentation,
        study.augmentation.dropout,
        study.space.augmentation_strength,
    )
    limits = {
        f"rotation up to {PLUS_MINUS}{section.rotation:g}\N{DEGREE SIGN}": section.rotation,
        f"rescaling up to {PLUS_MINUS}{100 * section.rescaling:g}{SPACE}%": section.rescaling,
        f"dropout of patches of {drop.patch} \N{MULTIPLICATION SIGN} {drop.patch} pixels "
        f"({100 * drop.rate:g}{SPACE}% of the image)": drop.rate,
    }
    used = [said for said, limit in limits.items() if limit > 0]
    if strength == 0 or not used:
        return prepared + "They were not augmented."
    *others, last = used
    times = "the searched strength" if isinstance(strength, Choices) else f"{strength:g}"
    views = "1 fixed view" if section.views == 1 else f"{section.views} fixed views"
    in_turn = ", one an epoch" if section.views > 1 else ""
    return (
        f"{prepared}For training only they were augmented by {', '.join(others)}"
        f"{' and ' if others else ''}{last}, times {times}; {views} a patient{in_turn}."
    )
