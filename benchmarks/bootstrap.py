"""4000 bootstraps of AUC and accuracy, all at once against a plain loop over scikit-learn."""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
import typer
from sklearn.metrics import accuracy_score, roc_auc_score

from analysis.statistics.bootstrap import Resamples, draw_resamples, weighted_auc
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    spread,
    summarise,
    table,
    write_results,
)

PATIENTS = 93
POSITIVE = 0.32  # the paper's dyslipidaemia
RESAMPLES = 4000
TIMES_FASTER = 200
TOLERANCE = 1e-12


def draw_patients() -> tuple[np.ndarray, np.ndarray]:
    """Return who is positive, bool (93,), and probabilities with a few ties, (93,)."""
    generator = np.random.default_rng(0)
    positive = generator.permutation(PATIENTS) < round(PATIENTS * POSITIVE)
    logits = 1.3 * (positive - 0.5) + generator.normal(0.0, 1.0, PATIENTS)
    return positive, np.round(1 / (1 + np.exp(-logits)), 2)


def our_auc(positive: np.ndarray, score: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Return the AUC of every resample as ``analysis`` computes it."""
    return weighted_auc(positive, score, resamples.counts)


def looped_auc(positive: np.ndarray, score: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Return the AUC of every resample by scikit-learn, one after the other."""
    return np.array([roc_auc_score(positive[rows], score[rows]) for rows in resamples.indices])


def our_accuracy(positive: np.ndarray, score: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Return the accuracy of every resample, a weighted mean, as our metrics do."""
    right = (score >= 0.5) == positive
    return np.asarray(resamples.counts @ right / len(right), dtype=np.float64)


def looped_accuracy(positive: np.ndarray, score: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Return the accuracy of every resample by scikit-learn, one after the other."""
    predicted = score >= 0.5
    return np.array([accuracy_score(positive[rows], predicted[rows]) for rows in resamples.indices])


def measure(count: int, repeats: int) -> dict[str, Any]:
    """Return seconds of either way, and the largest difference between their values.

    Ours includes drawing the resamples and counting who is in them; the loop gets the drawn
    patients for nothing. Both ways see the same resamples.
    """
    positive, score = draw_patients()
    seconds: dict[str, list[float]] = {"ours": [], "ours_statistics": [], "loop": []}
    differences = {"auc": 0.0, "accuracy": 0.0}
    for repeat in range(repeats):
        began = time.perf_counter()
        generator = np.random.default_rng(repeat)
        resamples = draw_resamples(positive, count, generator=generator)
        drawn = time.perf_counter()
        ours = {
            "auc": our_auc(positive, score, resamples),
            "accuracy": our_accuracy(positive, score, resamples),
        }
        done = time.perf_counter()
        loop = {
            "auc": looped_auc(positive, score, resamples),
            "accuracy": looped_accuracy(positive, score, resamples),
        }
        seconds["loop"].append(time.perf_counter() - done)
        seconds["ours"].append(done - began)
        seconds["ours_statistics"].append(done - drawn)
        for name, values in ours.items():
            furthest = float(np.abs(values - loop[name]).max())
            differences[name] = max(differences[name], furthest)
    return {
        "seconds": {name: summarise(values) for name, values in seconds.items()},
        "times_faster": summarise(
            [loop / ours for loop, ours in zip(seconds["loop"], seconds["ours"], strict=True)]
        ),
        "largest_difference": differences,
    }


def main(
    repeats: Annotated[int, typer.Option(min=1, help="How often both ways run.")] = 5,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Time 4000 bootstraps of AUC and accuracy of 93 patients against a plain loop."""
    terminal, described = console(), machine()
    count, repeats = (50, 1) if quick else (RESAMPLES, repeats)
    measure(2, 1)  # imports and caches
    found = measure(count, repeats)
    times = found["times_faster"]["median"]
    furthest = max(found["largest_difference"].values())
    goals = [
        goal(f"at least {TIMES_FASTER} times as fast as the loop", reached=times >= TIMES_FASTER),
        goal(f"no value differs by more than {TOLERANCE:g}", reached=furthest <= TOLERANCE),
    ]
    rows = table(f"{count} resamples of {PATIENTS} patients, {repeats} repeats", "", "ms")
    for name, label in (
        ("ours", "ours, drawing included"),
        ("ours_statistics", "ours, AUC and accuracy alone"),
        ("loop", "loop over scikit-learn"),
    ):
        rows.add_row(label, spread([1e3 * s for s in found["seconds"][name]["values"]], 2))
    terminal.print(rows)
    terminal.print(f"{times:.0f} times as fast; largest difference {furthest:.1e}")
    show_goals(goals, terminal, quick=quick)
    settings = {"patients": PATIENTS, "resamples": count, "repeats": repeats}
    content = {"settings": settings, **found, "goals": goals}
    path = write_results("bootstrap", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
