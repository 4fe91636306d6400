"""Where a study's trials are kept, who works on which, and how one is taken over from a process that died."""

import math
import os
import platform
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from resattn.data.locking import locked
from resattn.errors import ResattnError
from resattn.experiments.plan import Plan
from resattn.experiments.search_space import Choices, Range, SearchSpace
from resattn.experiments.study_definition import require_as_begun
from resattn.experiments.trial_record import PLACE, RUN, run_name
from resattn.files import make_folder, writing

JOURNAL = "journal.log"
# A trial of another machine is given up when its machine was silent for longer than the second.
HEARTBEAT_SECONDS, GRACE_SECONDS = 60, 300
# Trials that end before the median of others is taken for something to compare with.
STARTUP_TRIALS = 4


@dataclass(frozen=True)
class StudyStorage:
    """An open study. Trials that processes of one machine work on are marked by locks on their run folders."""

    folder: Path
    optuna_study: optuna.Study
    storage: BaseStorage
    space: SearchSpace

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers."""
        return self.optuna_study.get_trials(deepcopy=False)

    def claim(self, wanted: int, held: ExitStack) -> optuna.Trial | None:
        """The next trial to work on: one that a dead process left, or a new one; the caller's until `held` closes.

        None where `wanted` trials are finished or being worked on.
        """
        with locked(self.folder), warnings.catch_warnings():
            # Optuna warns that heartbeats are experimental, and that `ask` does not send them; we do.
            warnings.simplefilter("ignore")
            for running in self._numbers(TrialState.RUNNING).values():
                self._requeue_if_dead(running)
            optuna.storages.fail_stale_trials(self.optuna_study)
            if len(finished(self.trials())) + len(self._numbers(TrialState.RUNNING)) >= wanted:
                return None
            if not self.trials() and self.space.own:
                # What all others are to beat.
                self.optuna_study.enqueue_trial(self.space.own, skip_if_exists=True)
            number = next(iter(self._numbers(TrialState.WAITING)), len(self.trials()))
            self.optuna_study.sampler = _sampler(self.space.base.seed, number)
            trial = self.optuna_study.ask(_distributions(self.space))
            if not held.enter_context(locked(self.folder / run_name(trial), when_busy="leave")):
                # Given up too early: its first process still works there.
                trial.set_user_attr(RUN, f"trial-{trial.number:03d}")
                held.enter_context(locked(self.folder / run_name(trial)))
            trial.set_user_attr(RUN, run_name(trial))
            trial.set_user_attr(PLACE, self._place)
            if isinstance(self.storage, RDBStorage):
                held.enter_context(_heartbeat(self.storage, self._id(trial)))
            return trial

    def _requeue_if_dead(self, trial: FrozenTrial) -> None:
        """Put a running trial back into the queue, as it is, where its process died and worked in this folder."""
        if isinstance(self.storage, RDBStorage) and trial.user_attrs.get(PLACE) != self._place:
            return
        with locked(self.folder / run_name(trial), when_busy="leave") as free:
            if free:
                self.storage.set_trial_state_values(self._id(trial), state=TrialState.WAITING)

    def _numbers(self, state: TrialState) -> dict[int, FrozenTrial]:
        return {trial.number: trial for trial in self.trials() if trial.state == state}

    @property
    def _place(self) -> str:
        return f"{platform.node()}:{self.folder.resolve()}"

    def _id(self, trial: optuna.Trial | FrozenTrial) -> int:
        study = self.storage.get_study_id_from_name(self.optuna_study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, trial.number)


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that came to an end, well or not; those that were given up and begun again are not among them."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in again]


@contextmanager
def open_study(plan: Plan) -> Iterator[StudyStorage]:
    """Make the study or find it again; its pruner is the plan's.

    Raises ResattnError for a storage that cannot be opened or fails, and where the study was begun with another
    recipe or another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    make_folder(plan.folder)
    address = "the journal" if plan.storage is None else _shown(plan.storage)
    storage: BaseStorage | None = None
    try:
        with locked(plan.folder):
            storage = _journal(plan.folder) if plan.storage is None else _database(plan.storage)
            study = optuna.create_study(
                study_name=plan.study,
                storage=storage,
                direction="maximize",
                pruner=_pruner(plan),
                load_if_exists=True,
            )
            require_as_begun(plan, study)
        yield StudyStorage(plan.folder, study, storage, plan.space)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error).splitlines()[0]
        raise ResattnError(
            f"{address} failed: {reason}", "check --storage, then give the same command again"
        ) from error
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def _journal(folder: Path) -> JournalStorage:
    # Absolute, because Optuna's lock finds out its own age through this path.
    path = (folder / JOURNAL).resolve()
    lock = JournalFileOpenLock(str(path))
    if path.exists():
        lock.acquire()
        try:
            _cut_partial_line(path)
        finally:
            lock.release()
    return JournalStorage(_Journal(str(path), lock_obj=lock))


class _Journal(JournalFileBackend):
    """Optuna's journal; a disk that refuses is told in words, and leaves the trial open to be gone on with."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines at the end."""
        with writing(Path(self._file_path)):
            super().append_logs(logs)


def _cut_partial_line(path: Path) -> None:
    """Remove what a process that was killed while it wrote has left; Optuna could read nothing behind it."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _database(url: str) -> RDBStorage:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
    except ImportError as error:
        raise ResattnError(
            f"--storage {_shown(url)}: the driver of this database is not installed",
            "install it, such as psycopg2-binary for postgresql:// addresses",
        ) from error


def _shown(url: str) -> str:
    """An address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "--storage"


def _distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    return {field: _distribution(domain) for field, domain in space.domains.items()}


def _distribution(domain: Choices | Range) -> BaseDistribution:
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.values)
    if domain.whole:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def _sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial, so that a study that was interrupted, or shared, does not draw the same values twice."""
    state = np.random.SeedSequence([seed, number]).generate_state(1)
    return optuna.samplers.TPESampler(seed=int(state[0]), multivariate=True)


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    if plan.pruner == "median":
        # What stands at a quarter of a run says little of its end.
        half = math.ceil(plan.space.base.validations / 2)
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=half)
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=plan.space.base.validations)
    return optuna.pruners.NopPruner()


@contextmanager
def _heartbeat(storage: RDBStorage, trial_id: int) -> Iterator[None]:
    """Tell other machines now and then that somebody works on a trial."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            try:
                storage.record_heartbeat(trial_id)
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
                # A database that is away for a moment; the next beat may reach it.
                continue
            finally:
                storage.remove_session()

    storage.record_heartbeat(trial_id)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
