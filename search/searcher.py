"""Which configuration comes next: Optuna proposes, in an order that timing cannot change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from search.actor import SCORE
from search.board import Board
from spaces.parameters import Choices, Configuration, Range, Space, first_configurations
from spaces.sections import SearchSection
from spaces.trial_log import TrialRecord

SAMPLER = "sampler"


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each searched parameter, under its YAML name."""
    return {name: _distribution(parameter) for name, parameter in space.searched().items()}


def _distribution(parameter: Range | Choices) -> BaseDistribution:
    if isinstance(parameter, Range):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    step = _even_step(parameter.choices)
    if step is None:
        return CategoricalDistribution(parameter.choices)
    # An even grid keeps its order, which a categorical distribution would forget.
    return FloatDistribution(parameter.choices[0], parameter.choices[-1], step=step)


def _even_step(choices: list[float]) -> float | None:
    """Return the step of a grid whose values ``low + k * step`` gives to the last bit."""
    if len(choices) < 2:
        return None
    low, step = choices[0], choices[1] - choices[0]
    is_even = all(low + k * step == choice for k, choice in enumerate(choices))
    return step if is_even else None


def sampler_of(search: SearchSection, seed: int, number: int) -> BaseSampler:
    """Return the sampler for proposal ``number``; it depends on nothing but the arguments."""
    sequence = np.random.SeedSequence(seed, spawn_key=(number,))
    child = int(sequence.generate_state(1)[0])
    if search.sampler == "random":
        return RandomSampler(seed=child)
    if search.sampler == "gp":
        return GPSampler(
            seed=child, n_startup_trials=search.startup, warn_independent_sampling=False
        )
    return TPESampler(seed=child, n_startup_trials=search.startup)


class StudySearcher(OptunaSearch):
    """Tune's side of Optuna: hands out the board's trials, proposing new ones when it may.

    It differs from its base in what a result means. A complete trial is told as COMPLETE, a
    stopped one as PRUNED with all its scores, a failed one as FAIL; the base tells the first two
    as COMPLETE and leaves the last RUNNING for ever. In reproducible order trials are told by
    whole generations in number order, and nobody is asked before the generations before are told.
    """

    def __init__(self, board: Board, slots: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = board.study
        self._board = board
        self._slots = slots
        self._distributions = distributions(study.space)
        self._asked: dict[int, optuna.Trial] = {}
        self._first = first_configurations(
            study.space, has_segments=study.cohort.segments is not None
        )
        super().__init__(
            self._distributions,
            metric=SCORE,
            mode="max",
            sampler=RandomSampler(seed=study.seed),
            study_name=study.name,
        )
        if not self._distributions:
            self._setup_study("max")
        for trial in board.trials:
            self._ask_optuna(trial.number, trial.configuration)
        self.tell()

    def __deepcopy__(self, memo: dict[int, Any]) -> StudySearcher:
        """Stay one searcher if Tune copies it."""
        return self

    @property
    def study(self) -> optuna.Study:
        """The live Optuna study, in memory."""
        return cast(optuna.Study, self._ot_study)

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Keep space, metric and mode as they are."""
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Count slots here: Tune's own count would never free the slot of a lost trial."""
        self._slots = max_concurrent
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return a trial to run, None if there is none at the moment, FINISHED after the last."""
        board = self._board
        board.collect_lost()
        self.tell()
        if board.is_over or board.obstacle is not None:
            return Searcher.FINISHED
        if len(board.running) >= self._slots:
            return None
        trial = next(iter(board.waiting), None) or self._propose()
        if trial is None:
            return None
        board.start(trial_id, trial)
        return {
            "number": trial.number,
            "configuration": trial.configuration.as_dict(),
            "history": [epoch.mean_auc for epoch in trial.epochs],
            "unfit": sorted(board.unfit),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the board has every score, and Optuna gets them when the trial is told."""

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Tell what may be told; the board, not Tune, knows how the trial ended."""
        self.tell()

    def save(self, checkpoint_path: str) -> None:
        """Leave an empty file for Tune: trials.jsonl is what a search is rebuilt from."""
        Path(checkpoint_path).touch()

    def tell(self) -> None:
        """Tell Optuna the trials that have ended, in number order, if the order allows it."""
        ready = [number for number in sorted(self._asked) if self._is_ready(number)]
        for number in ready:
            trial, record = self._asked.pop(number), self._board.trials[number]
            for epoch in record.epochs:
                trial.report(epoch.score, epoch.epoch)
            if record.state == "complete":
                self.study.tell(trial, record.score)
            else:
                state = TrialState.PRUNED if record.state == "stopped" else TrialState.FAIL
                self.study.tell(trial, state=state)

    def _is_ready(self, number: int) -> bool:
        trials, search = self._board.trials, self._board.study.search
        if search.order == "asynchronous":
            return trials[number].state is not None
        start = number - number % search.generation
        end = min(start + search.generation, self._board.total)
        return len(trials) >= end and all(trial.state for trial in trials[start:end])

    def _propose(self) -> TrialRecord | None:
        """Ask for a new configuration, unless all were asked or earlier generations still run."""
        search, number = self._board.study.search, len(self._board.trials)
        if number >= self._board.total:
            return None
        start = number - number % search.generation
        if search.order == "reproducible" and any(asked < start for asked in self._asked):
            return None
        if number < len(self._first):
            source, configuration = self._first[number]
            self._ask_optuna(number, configuration)
            return self._board.ask(configuration, source)
        return self._board.ask(self._ask_optuna(number), SAMPLER)

    def _ask_optuna(self, number: int, known: Configuration | None = None) -> Configuration:
        """Open Optuna's trial ``number``, with the ``known`` values or those it proposes."""
        if known is None:
            study = self._board.study
            self.study.sampler = sampler_of(study.search, study.seed, number)
        else:
            values = known.as_dict()
            self.study.enqueue_trial({name: values[name] for name in self._distributions})
        trial = self.study.ask(self._distributions)
        self._asked[trial.number] = trial
        fixed = self._board.study.space.fixed()
        return known or Configuration.from_mapping(fixed | trial.params)
