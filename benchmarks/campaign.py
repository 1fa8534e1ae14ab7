"""The paper's whole programme on phantoms: what it takes, and whether it finds what was planted.

Every study's model is judged on thousands of phantoms that nobody has seen, beside the AUC that its
maps allow and beside the run's own frozen logistic regression on the segment values. Sex lies in
the segment means, so a network should gain nothing there; smoking lies inside the segments.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from rich.console import Console

from analysis.judge.baselines import L2, concatenate_segments, predict_baseline
from analysis.judge.freeze import BASELINES
from analysis.statistics.bootstrap import (
    auc_of,
    draw_resamples,
    percentile_interval,
    weighted_auc,
)
from benchmarks.fresh_maps import FreshMaps, join, outputs_of
from benchmarks.measuring import (
    FOLDER,
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    table,
    time_command,
    write_results,
)
from cohort.drawing.phantom import INPUTS, Phantoms, draw_patients, draw_phantom
from cohort.drawing.truth import IMPAIRED, TRAITS, measure_ceilings, reserve_is_impaired
from spaces.campaign import Member, Plan, read_campaign
from spaces.parameters import PAPER_LIKE
from spaces.run_files import RunFiles, read_json
from spaces.trial_log import read_trials
from trainable.features import Outputs
from trainable.loss import LOGITS
from trainable.model import load_model
from trainable.problem import open_problem

Keep = Annotated[
    Path | None,
    typer.Option(
        help="An absent or earlier folder (10 GB), kept; a campaign that was stopped in it goes on."
    ),
]

MINUTES = 90
CAMPAIGN = FOLDER.parent / "studies" / "campaign_phantom.yaml"
PATIENTS, SIZE = 944, 228
FRESH, FRESH_SEED, TOGETHER = 5000, 999, 250
RESAMPLES, CONFIDENCE = 1000, 0.95
RECOVERED = 0.9


def prepare(folder: Path, *, quick: bool) -> Path:
    """Draw the cohort and write the campaign of ``studies/`` for it; a tiny one if quick."""
    content = yaml.safe_load(CAMPAIGN.read_text(encoding="utf-8"))
    patients, size = (80, 32) if quick else (PATIENTS, SIZE)
    cohort = draw_phantom(folder / "cohort", patients=patients, size=size, ceiling=False)
    content["study"]["cohort"]["path"] = str(cohort)
    if quick:
        content["inputs"] = {"stack": list(INPUTS)}
        content["targets"], content["transfer"]["targets"] = ["impaired_any"], ["sex"]
        content["study"] |= {"training": {"epochs": 2}, "search": {"trials": 2}}
        content["study"]["network"]["image_size"] = 32
        content["study"]["evaluation"] = {"bootstraps": 100, "seeds": 1, "attention": False}
        content["study"]["cohort"]["split"]["test"] = 20
    file = folder / "campaign.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def run_to_the_end(file: Path, folder: Path) -> tuple[list[float], int]:
    """Run the campaign, or go on; return the seconds of each start, and the last one's memory."""
    noted = folder / "seconds.json"
    starts: list[float] = json.loads(noted.read_text()) if noted.exists() else []
    began = time.perf_counter()
    try:
        _, peak = time_command("campaign", str(file), "--out", str(folder / "runs"))
    finally:
        starts.append(time.perf_counter() - began)
        noted.write_text(json.dumps(starts))
    return starts, peak


def draw(numbers: Sequence[int], size: int) -> Phantoms:
    """Return phantoms of a seed that no cohort of ours has."""
    return draw_patients(numbers, seed=FRESH_SEED, size=size)


def see_fresh(plan: Plan, count: int) -> tuple[dict[str, Outputs], Phantoms]:
    """Return the trunk's outputs by map, and the phantoms themselves without their images."""
    first = plan.members[0].study
    problem = open_problem(str((plan.root / first.name).resolve()), "cpu")
    together = min(TOGETHER, count)
    parts = [range(start, start + together) for start in range(0, count, together)]
    seen: dict[str, list[Outputs]] = {name: [] for name in INPUTS}
    known: list[Phantoms] = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for phantoms in pool.map(partial(draw, size=first.network.image_size), parts):
            for name in INPUTS:
                seen[name].append(outputs_of(problem, phantoms.images[name]))
            known.append(Phantoms({}, phantoms.segments, phantoms.traits))
    truth = Phantoms(
        {},
        {name: np.concatenate([one.segments[name] for one in known]) for name in INPUTS},
        {name: np.concatenate([one.traits[name] for one in known]) for name in TRAITS},
    )
    return {name: join(outputs) for name, outputs in seen.items()}, truth


def outcome_of(target: str, truth: Phantoms) -> np.ndarray:
    """Return who is positive, bool (n,)."""
    if target in IMPAIRED:
        return reserve_is_impaired(truth.segments["reserve"], IMPAIRED[target])
    return np.asarray(truth.traits[target] == 1)


def judge(
    member: Member, root: Path, seen: Mapping[str, Outputs], truth: Phantoms
) -> dict[str, Any]:
    """Return what a study's model and its regression do on the fresh phantoms."""
    run = RunFiles(root / member.study.name)
    inputs, positive = member.study.cohort.inputs, outcome_of(member.target, truth)
    open_problem.cache_clear()
    problem = open_problem(str(run.root.resolve()), "cpu")
    [training] = problem.development_training(PAPER_LIKE).trainings
    training.head.load_trained(dict(load_model(run.model).network.named_parameters()))
    training.features = FreshMaps([seen[name] for name in inputs])
    logits = training.predict(np.arange(len(positive))).numpy()[:, LOGITS]
    model = (logits[:, 1] - logits[:, 0]).astype(np.float64)
    frozen = read_json(run.test / BASELINES, "baselines")["models"][L2]
    regression = predict_baseline(frozen, concatenate_segments(truth.segments, inputs))
    drawn = draw_resamples(positive, RESAMPLES, generator=np.random.default_rng(0))
    differences = weighted_auc(positive, model, drawn.counts)
    differences = differences - weighted_auc(positive, regression, drawn.counts)
    interval = percentile_interval(differences, CONFIDENCE)
    auc, other = auc_of(positive, model), auc_of(positive, regression)
    return {
        "target": member.target,
        "input": member.input,
        "auc": auc,
        "regression_auc": other,
        "difference": auc - other,
        "difference_low": interval.low,
        "difference_high": interval.high,
    }


def ceilings_of(plan: Plan, patients: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by target and input the AUC that the maps allow, as far as it is known."""
    return measure_ceilings(plan.targets, list(plan.campaign.inputs), patients=patients)


def show(cells: Sequence[Mapping[str, Any]], inputs: Sequence[str], terminal: Console) -> None:
    """Print each target's AUC by input, beside its ceiling."""
    rows = table("AUC on fresh phantoms / ceiling", "", *inputs)
    for target in dict.fromkeys(cell["target"] for cell in cells):
        of_target = {cell["input"]: cell for cell in cells if cell["target"] == target}
        rows.add_row(target, *(_said(of_target[name]) for name in inputs))
    terminal.print(rows)
    terminal.print("* does better than logistic regression on the segment values")


def _said(cell: Mapping[str, Any]) -> str:
    star = "*" if cell["difference_low"] > 0 else " "
    return f"{cell['auc']:.2f}{star}/{cell['ceiling']:.2f}"


def goals_of(cells: Sequence[Mapping[str, Any]], minutes: float) -> list[dict[str, Any]]:
    """Return what the programme had to show."""
    found = {(cell["target"], cell["input"]): cell for cell in cells}
    sex = [cell for cell in cells if cell["target"] == "sex"]
    smoking = [cell for cell in cells if cell["target"] == "smoking"]
    planted = found["impaired_any", "reserve"]
    share = (planted["auc"] - 0.5) / (planted["ceiling"] - 0.5)
    return [
        goal(f"within {MINUTES} minutes ({minutes:.1f})", reached=minutes <= MINUTES),
        goal(
            f"impaired any from reserve: {RECOVERED:.0%} of what can be found ({share:.0%})",
            reached=share >= RECOVERED,
        ),
        goal(
            "sex: the network does not beat the regression on segments, from any input",
            reached=all(cell["difference_low"] <= 0 for cell in sex),
        ),
        goal(
            "smoking: the network beats the regression on segments, from some input",
            reached=any(cell["difference_low"] > 0 for cell in smoking),
        ),
    ]


def main(
    keep: Keep = None,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Run the campaign of 36 studies once, then judge its models on fresh phantoms."""
    terminal, described = console(), machine()
    fresh, references = (60, 200) if quick else (FRESH, 50_000)
    with nullcontext(keep) if keep else tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.mkdir(parents=True, exist_ok=True)
        file = home / "campaign.yaml"
        if not file.exists():
            file = prepare(home, quick=quick)
        terminal.print("The campaign runs (two hours or more) ...")
        starts, peak = run_to_the_end(file, home)
        plan = read_campaign(file, home / "runs")
        trials = [
            trial
            for member in plan.members
            for trial in read_trials(RunFiles(plan.root / member.study.name).trials)
        ]
        seen, truth = see_fresh(plan, fresh)
        ceilings = ceilings_of(plan, references)
        cells = [
            judge(member, plan.root, seen, truth)
            | {"ceiling": ceilings[member.target][member.input]["auc"]}
            for member in plan.members
        ]
        tested = read_json(plan.summary, "campaign-result")["cells"]
    show(cells, list(plan.campaign.inputs), terminal)
    epochs, seconds = sum(len(trial.epochs) for trial in trials), sum(starts)
    terminal.print(
        f"{len(plan.members)} studies, {len(trials)} trials, {epochs} epochs of five folds; "
        f"{seconds / 60:.1f} minutes in {len(starts)} starts, at most {peak / 1e9:.2f} GB without "
        "mapped files."
    )
    goals = [] if quick else goals_of(cells, seconds / 60)
    show_goals(goals, terminal, quick=quick)
    content = {
        "seconds": seconds,
        "seconds_of_each_start": starts,
        "peak_gb": peak / 1e9,
        "trials": len(trials),
        "epochs": epochs,
        "fresh": {"patients": fresh, "cells": cells},
        "tested": tested,
        "goals": goals,
    }
    path = write_results("campaign", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
