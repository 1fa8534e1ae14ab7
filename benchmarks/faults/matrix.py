"""The matrix: every fault, where it begins, and how the study must end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from benchmarks.faults import changes, cluster, configurations, files, limits, processes
from benchmarks.faults.oracles import Ending
from benchmarks.faults.scene import Scene


class Begins(Enum):
    """The stage of a scene."""

    NEW = "a new study with a filled bank"
    HALF = "a study that was killed half way, with checkpoints"
    DONE = "a study whose trials have ended"


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: shown in its row.
        happens: plays it, to the end of the study.
        begins: where.
        ending: how the study must end.
        whole: whether to the report, or to the last trial.
    """

    name: str
    happens: Callable[[Scene], None]
    begins: Begins = Begins.NEW
    ending: Ending = Ending.UNDISTURBED
    whole: bool = False


HALF = Begins.HALF
SOME, NONE, REFUSED = Ending.SOME_FAILED, Ending.NONE_COMPLETE, Ending.REFUSED
FAULTS = (
    Fault("trial's process killed", processes.trial_killed),
    Fault("trial's process stopped", processes.trial_stopped),
    Fault("reused process killed", processes.reused_process_killed),
    Fault("trials slow to clean up", processes.slow_to_clean_up),
    Fault("Ctrl-C", processes.interrupted),
    Fault("SIGTERM", processes.terminated),
    Fault("driver killed", processes.driver_killed),
    Fault("driver, head, raylet: 10 kills", processes.killed_ten_times, whole=True),
    Fault("head of Ray killed", processes.head_killed),
    Fault("node crashes and returns", cluster.node_crashes),
    Fault("cluster: driver, head killed", cluster.cluster_lost),
    Fault("two drivers", processes.two_drivers),
    Fault("trials.jsonl: torn last line", files.torn_last_line, HALF),
    Fault("trials.jsonl: damaged line", files.damaged_line, HALF, REFUSED),
    Fault("logits truncated", files.logits_truncated, HALF),
    Fault("logits, a bit flipped", files.logits_flipped, HALF),
    Fault("ended logits, a bit flipped", files.ended_logits_flipped, HALF, whole=True),
    Fault("checkpoint truncated", files.checkpoint_truncated, HALF),
    Fault("checkpoint, a bit flipped", files.checkpoint_flipped, HALF),
    Fault("seals of checkpoints damaged", files.seals_damaged, HALF),
    Fault("checkpoint half written", files.checkpoint_half_written, HALF),
    Fault("bank truncated, a bit flipped", files.bank_damaged, HALF),
    Fault("bank truncated in use", files.bank_truncated_in_use),
    Fault("export deleted", files.export_deleted, Begins.DONE),
    Fault("NaN in the first trial", configurations.diverges_at_once, ending=SOME),
    Fault("infinite loss", configurations.infinite_later, ending=SOME),
    Fault("every trial diverges", configurations.all_diverge, ending=NONE, whole=True),
    Fault("configuration raises", configurations.always_raises, ending=SOME),
    Fault("configuration hangs", configurations.hangs, ending=SOME),
    Fault("GPU memory full (raised)", configurations.out_of_gpu_memory, ending=SOME),
    Fault("memory full (limit)", limits.out_of_memory, ending=SOME),
    Fault("disk full for the driver", limits.disk_full_for_the_driver),
    Fault("disk full", limits.disk_full),
    Fault("storage gone for 5 s", limits.storage_gone, HALF),
    Fault("bank gone for 5 s", limits.bank_gone),
    Fault("cohort changed", changes.cohort_changed, HALF, REFUSED),
    Fault("images changed", changes.images_changed, HALF, REFUSED),
    Fault("study changed", changes.study_changed, HALF, REFUSED, whole=True),
    Fault("code changed", changes.code_changed, HALF, REFUSED),
)
QUICK = frozenset(
    {"trial's process killed", "head of Ray killed", "two drivers", "configuration raises"}
)
