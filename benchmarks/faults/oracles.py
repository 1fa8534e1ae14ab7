"""What must hold after a fault, whatever it was; each check returns what did not hold."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.faults.driver import (
    end_all,
    everybody,
    named_memory,
    processes_of,
    shared_memory,
)
from benchmarks.faults.scene import NAME, Scene, read_lines
from spaces.errors import InputError
from spaces.run_files import RunFiles, read_json, sha256_of
from spaces.session import is_driven
from spaces.study import read_study

LEAVING_SECONDS = 20.0
STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Ending(Enum):
    """What a study must look like at its end, after the fault was overcome."""

    UNDISTURBED = "as undisturbed"
    SOME_FAILED = "the others as undisturbed"
    NONE_COMPLETE = "no complete trial"
    REFUSED = "half done, as it was"


def judge(scene: Scene, ending: Ending) -> list[str]:
    """Return everything that does not hold at the end of a scene."""
    if ending is Ending.REFUSED:
        return list(_nothing_runs(scene))
    checks = [
        _asked_ended_once,
        _log_only_grew,
        _logits_as_logged,
        _journal_agrees,
        _little_lost,
        _nothing_runs,
        _memory_freed,
        _nothing_left,
    ]
    if ending is Ending.UNDISTURBED:
        checks += [_same_trials, _same_files, _best_is_complete]
    elif ending is Ending.SOME_FAILED:
        checks += [_same_epochs, _best_is_complete]
    else:
        checks += [_nothing_chosen]
    return [problem for check in checks for problem in check(scene)]


def work_lost(scene: Scene) -> float:
    """Return the seconds of computing that had to be repeated, over all trials."""
    return sum(_repeated(scene).values())


def _repeated(scene: Scene) -> Counter[str]:
    """Return, for each configuration, the seconds of epochs that were computed again."""
    seen: set[tuple[str, int]] = set()
    lost: Counter[str] = Counter()
    for note in scene.notes():
        known = {name: value for name, value in note.items() if name not in _CHANGING}
        key = json.dumps(known, sort_keys=True)
        if (key, note["epoch"]) in seen:
            lost[key] += note["seconds"]
        seen.add((key, note["epoch"]))
    return lost


_CHANGING = frozenset({"pid", "epoch", "seconds"})


def _asked_ended_once(scene: Scene) -> Iterator[str]:
    asked = [event["number"] for event in scene.events("asked")]
    ended = Counter(event["number"] for event in scene.events("ended"))
    total = read_study(scene.run.study).search.trials
    if asked != list(range(total)):
        yield f"asked {asked}, not 0 to {total - 1}"
    for number in asked:
        if ended[number] != 1:
            yield f"trial {number} ended {ended[number]} times"
    if any(not event["reason"] for event in scene.events("ended")):
        yield "a trial ended without a reason"


def _log_only_grew(scene: Scene) -> Iterator[str]:
    """A silent restart would begin the log anew."""
    if not scene.run.trials.read_text(encoding="utf-8").startswith(scene.kept):
        yield "trials.jsonl lost lines: a silent restart"


def _journal_agrees(scene: Scene) -> Iterator[str]:
    path = scene.run.optuna_journal
    if not path.is_file():
        yield "no Optuna export"
        return
    copied = scene.folder / "journal"  # reading one leaves a lock beside it
    shutil.copy(path, copied)
    storage = JournalStorage(JournalFileBackend(str(copied)))
    trials = optuna.load_study(study_name=NAME, storage=storage).get_trials(deepcopy=False)
    logged = {event["number"]: STATES[event["state"]] for event in scene.events("ended")}
    exported = {trial.number: trial.state for trial in trials}
    if exported != logged:
        wrong = [number for number in exported if exported[number] != logged.get(number)]
        states = [exported[number].name for number in wrong]
        yield f"the Optuna export differs in trials {wrong}: {states}"


def _little_lost(scene: Scene) -> Iterator[str]:
    worst = max(_repeated(scene).values(), default=0.0)
    if worst > scene.most_lost:
        yield f"{worst:.1f} s of one trial were computed again"


def _nothing_runs(scene: Scene) -> Iterator[str]:
    """No process, no lock, no scratch."""
    mark = f"TMPDIR={scene.scratch}"
    end = time.monotonic() + LEAVING_SECONDS
    while (left := processes_of(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    if left:
        names = [Path(f"/proc/{one}/comm").read_text().strip() for one in left[:3]]
        end_all(left)
        yield f"{len(left)} processes left ({', '.join(names)})"
    if is_driven(scene.run):
        yield "the lock of the run is held"
    scratch = [path.name for path in scene.scratch.glob("*polartune-*")]
    if scratch:
        yield f"scratch left: {scratch[:3]}"


def _memory_freed(scene: Scene) -> Iterator[str]:
    if scene.drivers and not scene.memory:
        yield "no shared memory was seen, so none could be missed"
    memory = scene.memory & (named_memory() | shared_memory(everybody()))
    if memory:
        yield f"shared memory left: {len(memory)} pieces"


def _nothing_left(scene: Scene) -> Iterator[str]:
    """No signs of life, checkpoints or unfinished files."""
    places = (scene.run.heartbeats, *(scene.run.root / "checkpoints").glob("*"))
    for place in places:
        if place.exists():
            yield f"{place.relative_to(scene.run.root)} left"
    partial = [path.name for path in scene.run.root.rglob("*.partial*")]
    if partial:
        yield f"unfinished files left: {partial[:3]}"


def _logits_as_logged(scene: Scene) -> Iterator[str]:
    """A trial that failed proves nothing, and so needs none."""
    for event in scene.events("ended"):
        path = scene.run.out_of_fold_of(event["number"])
        if event["state"] == "failed":
            continue
        if not path.exists() or sha256_of(path) != event["oof_sha256"]:
            yield f"{path.name} is not what the log says"


def _same_trials(scene: Scene) -> Iterator[str]:
    """Configurations, states, scores and logits, bit for bit."""
    for before, after in zip(*map(_outcomes, (scene.reference, scene.run)), strict=False):
        if before != after:
            names = [name for name in before if before[name] != after.get(name)]
            yield f"trial {before['number']} differs in {', '.join(names)}"


def _outcomes(run: RunFiles) -> list[dict[str, Any]]:
    """Return, for each number, what must not depend on what happened on the way."""
    lines = read_lines(run.trials)
    asked = {e["number"]: e["config"] for e in lines if e.get("event") == "asked"}
    found = []
    for event in sorted((e for e in lines if e.get("event") == "ended"), key=_number):
        number = event["number"]
        names = ("number", "state", "reason", "score", "best_epoch", "oof_sha256")
        found.append(
            {name: event[name] for name in names}
            | {"configuration": asked[number], "epochs": _epochs(lines, number)}
        )
    return found


def _number(event: dict[str, Any]) -> int:
    return int(event["number"])


def _epochs(lines: list[dict[str, Any]], number: int) -> list[tuple[Any, ...]]:
    """Return each epoch once: the number and the AUC of every fold."""
    own = [e for e in lines if e.get("event") == "epoch" and e["number"] == number]
    return [(e["epoch"], *e["auc"]) for e in own]


def _same_epochs(scene: Scene) -> Iterator[str]:
    """Each configuration that both runs had, in the epochs that both trained, bit for bit.

    After a failed trial the sampler proposes other configurations and rungs compare other trials,
    so only what was asked before can be compared.
    """
    before, after = map(_outcomes, (scene.reference, scene.run))
    pairs = [
        (one, other)
        for one, other in zip(before, after, strict=False)
        if one["configuration"] == other["configuration"] and other["state"] != "failed"
    ]
    if not pairs:
        yield "no trial can be compared with the undisturbed run"
    for one, other in pairs:
        common = min(len(one["epochs"]), len(other["epochs"]))
        if not common or one["epochs"][:common] != other["epochs"][:common]:
            yield f"trial {one['number']} differs in its epochs"
        if one["state"] == other["state"] == "complete":
            differ = [name for name in ("score", "oof_sha256") if one[name] != other[name]]
            if differ:
                yield f"trial {one['number']} is complete and differs in {', '.join(differ)}"


def _same_files(scene: Scene) -> Iterator[str]:
    names = ("best.json", "model/model.safetensors") if scene.whole else ("best.json",)
    for name in names:
        path = scene.run.root / name
        if not path.exists() or path.read_bytes() != (scene.reference.root / name).read_bytes():
            yield f"{name} differs"


def _best_is_complete(scene: Scene) -> Iterator[str]:
    ended = {event["number"]: event for event in scene.events("ended")}
    complete = [event for event in ended.values() if event["state"] == "complete"]
    try:
        number = read_json(scene.run.best, "best")["trial"]
    except InputError as error:
        yield str(error)
        return
    chosen = ended.get(number)
    if chosen is None:
        yield f"trial {number} was chosen, and the log does not know it"
    elif chosen["state"] != "complete" or chosen["score"] < max(e["score"] for e in complete):
        yield f"trial {chosen['number']} was chosen: {chosen['state']}, score {chosen['score']}"


def _nothing_chosen(scene: Scene) -> Iterator[str]:
    if scene.run.best.exists() or scene.run.best_study.exists() or scene.run.model.exists():
        yield "something was chosen, and no trial is complete"
