"""A first study file for a cohort, drawn from the header and the shape of its table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment

from cohort.reading.csv_rows import read_rows
from cohort.reading.image_paths import IMAGE_ENDINGS
from cohort.segments import SEGMENTS, segment_columns
from spaces.errors import InputError
from spaces.schema import MODELINE

RESERVED = ("patient_id", "exclusion_reason", "split")
# Which segment columns show what an input map shows, where the names follow the paper's.
FLOW_RESERVE = "mfr"
USUAL_SEGMENTS = {"rest": "rest_mbf", "stress": "stress_mbf", "reserve": FLOW_RESERVE}


@dataclass(frozen=True)
class Columns:
    """What the columns of a cohort table look like.

    Attributes:
        inputs: columns that hold image paths.
        segments: prefixes whose 17 columns exist.
        targets: columns that hold only 0, 1 and empty cells, with both classes present.
        split: whether a column ``split`` holds only development and test.
        numbered: groups of columns numbered 1 to 17 in another way than segments are, as
            ``CFR 1 to CFR 17``.
        two_valued: columns with two values that are not 0 and 1, such as yes and no.
    """

    inputs: tuple[str, ...]
    segments: tuple[str, ...]
    targets: tuple[str, ...]
    split: bool
    numbered: tuple[str, ...] = ()
    two_valued: tuple[str, ...] = ()


def recognise(table: pd.DataFrame) -> Columns:
    """Return what each column of a table of strings seems to be."""
    prefixes = dict.fromkeys(
        match.group(1) for name in table.columns if (match := re.fullmatch(r"(.+)_\d\d", name))
    )
    segments = [name for name in prefixes if set(segment_columns(name)) <= set(table.columns)]
    taken = {column for prefix in segments for column in segment_columns(prefix)} | set(RESERVED)
    others = [name for name in table.columns if name not in taken]
    values = {name: set(table[name].str.strip()) - {""} for name in others}
    return Columns(
        inputs=tuple(name for name in others if _are_images(values[name])),
        segments=tuple(segments),
        targets=tuple(name for name in others if values[name] == {"0", "1"}),
        split="split" in table.columns
        and set(table["split"].str.strip()) <= {"development", "test"},
        numbered=_numbered(others),
        two_valued=tuple(name for name in others if _are_two_words(values[name])),
    )


def _numbered(names: list[str]) -> tuple[str, ...]:
    """Return the first and last name of each group that ends in 1 to 17."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?\D)0*([1-9]\d?)", name):
            found.setdefault(match.group(1), {})[int(match.group(2))] = name
    wanted = set(range(1, SEGMENTS + 1))
    groups = [group for group in found.values() if wanted <= group.keys()]
    return tuple(f"{group[1]} to {group[SEGMENTS]}" for group in groups)


def _are_two_words(values: set[str]) -> bool:
    return len(values) == 2 and values != {"0", "1"}


def _are_images(values: set[str]) -> bool:
    return bool(values) and all(value.lower().endswith(IMAGE_ENDINGS) for value in values)


def draft_study(table_path: Path) -> str:
    """Return a commented study file for a cohort table; it names what was found in the table.

    Raises:
        InputError: there is no such file, it cannot be read, or it holds no image column or no
            possible target.
    """
    if not table_path.is_file():
        problem = "is a folder" if table_path.is_dir() else "does not exist"
        raise InputError(str(table_path), problem, "Give the path of your cohort table (CSV)")
    table = read_rows(table_path).cells.to_pandas()
    if "patient_id" not in table.columns:
        # The header is not repeated: without one, the first row is a patient's.
        problem = "needs a column patient_id in row 1"
        remedy = "Rename the column that names the patient; it has one unique value a row"
        raise InputError(table_path.name, problem, remedy)
    found = recognise(table)
    if not found.inputs:
        raise InputError(
            table_path.name,
            f"no column holds image paths ending in {', '.join(IMAGE_ENDINGS)}",
            "Add a column such as `reserve` with a path relative to the table",
        )
    if not found.targets and FLOW_RESERVE not in found.segments:
        raise InputError(
            table_path.name,
            f"no column holds 0 and 1, nor do {SEGMENTS} columns {FLOW_RESERVE}_01.. give a target",
            f"Write 0 and 1 for the two values of {' or '.join(found.two_valued)}"
            if found.two_valued
            else "Add a target column with 0, 1 or nothing",
        )
    return _write(table_path, found)


def _write(path: Path, found: Columns) -> str:
    usual = (FLOW_RESERVE, *found.segments)
    regressed = next((prefix for prefix in usual if prefix in found.segments), None)
    baselines = {name: USUAL_SEGMENTS.get(name, regressed) for name in found.inputs}
    folder = path.resolve().parent.name
    environment = Environment(  # noqa: S701 - writes YAML, no HTML
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_as_yaml
    )
    return f"{MODELINE}\n" + environment.from_string(TEMPLATE).render(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", folder).strip("-._")[:64] or "study",
        table=path.name,
        found=found,
        regressed=regressed,
        has_flow_reserve=FLOW_RESERVE in found.segments,
        target=next(iter(found.targets), "impaired_any"),
        baselines={name: prefix for name, prefix in baselines.items() if prefix in found.segments},
    )


def _as_yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()


TEMPLATE = """\
# A study for polartune. A key that is left out has its default.
#   polartune check study.yaml    says what this file would run, and what it would cost
#   polartune run study.yaml      runs it
name: {{ name }}
seed: 0

cohort:
  path: {{ table }}
  inputs: {{ found.inputs[:1] }} # found: {{ found.inputs }}
  # Of several inputs, `late` sends each through one frozen trunk; `early` widens the first layer.
  stack: late
  target: {{ target }} # columns with 0 and 1: {{ found.targets }}
{% if found.two_valued %}
  # With two other values, not yet a target: {{ found.two_valued }}; write 0 and 1.
{% endif %}
{% if has_flow_reserve %}
  # A target can be made from segment values: positive when any of `segments` is below.
  derive:
    impaired_any: {below: 2.0, segments: any, columns: mfr} # segments: any, LAD, RCA or LCx
{% endif %}
{% if regressed %}
  segments: {{ regressed }} # the 17 columns that the network regresses, of {{ found.segments }}
{% else %}
  segments: null # no prefix has 17 columns, so only the target is learnt (lambda is 1)
{% endif %}
{% for group in found.numbered %}
  # {{ group }} look like segments: call them mfr_01 to mfr_17 (flow reserve), rest_mbf_01 ...
  # or stress_mbf_01 ... in the table, and draft again.
{% endfor %}
  # Per input, the 17 columns that logistic regression sees; those of the same map, if you can.
  baseline_segments: {{ baselines }}
  # Does a colour mean the same flow in every map (fixed), or is each map scaled to itself
  # (relative)? The report prints it.
  colour_scale: unknown
  split:
    test: 0.1 # a share of the patients, or a count such as 93
    folds: 5
    stratify: true # the same share of positives in the test set and in every fold
    seed: 0
{% if found.split %}
    column: split # development or test in every row; overrides `test`
{% endif %}

network:
  backbone: resnet50 # resnet34, resnet18, efficientnet_lite0 (its weights come with extra `demo`)
  weights: imagenet # or random, or {file: weights.pth, sha256: ...}
  trainable_layers: 3 # the last weighted layers; `all` trains everything, at a much higher cost

augmentation: # limits at strength 1
  rotation: 10.0 # degrees, to either side
  rescaling: 0.1

space: # a plain number fixes a parameter; write 1.0e-3, since YAML reads 1e-3 as text
  # lambda * cross-entropy + (1 - lambda) * mean squared error
{% if regressed %}
  lambda: {low: 0.0, high: 1.0}
{% else %}
  lambda: 1.0
{% endif %}
  learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}
  weight_decay: {low: 1.0e-6, high: 1.0e-1, log: true}
  augmentation_strength: {choices: [0.0, 0.25, 0.5, 0.75, 1.0]}

training:
  epochs: 20
  batch_size: 32

search:
  trials: 32

evaluation: # decided before the test set is opened
  selection: best # or one_se: the simplest trial within one standard error of the best
  bootstraps: 4000
"""
