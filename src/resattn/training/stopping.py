"""Runs that end before their last step, by a signal or by a listener: save, say how to go on, and leave."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import pytorch_lightning as pl

from resattn.errors import CannotWrite
from resattn.training.checkpoints import Checkpoints
from resattn.training.processes import largest

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds after which a signal that was swallowed is sent again.
AGAIN = 0.01


class TrainingStopped(BaseException):
    """A signal asked the run to end; a BaseException, as KeyboardInterrupt is, so that nothing swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells expect."""
        return 128 + self.signum


class RunEnded(Exception):
    """A listener ended the run; a checkpoint lies in its folder, and `resume` goes on with it."""


class Listener(pl.Callback):
    """A callback that may end the run it listens to, by writing the reason to `ending`.

    The run ends after the next step that can be resumed from, with a checkpoint of it, and raises RunEnded. A reason
    that comes with the last step is too late: the run is finished as any other.
    """

    ending: str | None = None


class StopSignals:
    """While entered, the first signal is remembered during steps and raised elsewhere.

    A second one always raises where that is taken for insistence: torchrun hands on what its processes got already.
    What is raised in a finalizer or the callback of a weak reference, where nothing can be, comes again a moment later.
    """

    def __init__(self, *, insistent: bool = True) -> None:
        self.insistent = insistent
        self.requested: int | None = None
        self.deferred = False
        self._previous: dict[int, Any] = {}
        self._tell_unraisable = sys.unraisablehook

    def __enter__(self) -> Self:
        self._previous = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self._tell_unraisable, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        sys.unraisablehook = self._tell_unraisable
        if self.requested is not None and not isinstance(error, TrainingStopped | CannotWrite):
            # It came when something else was about to end the block, and nobody was told. That nothing could be saved
            # weighs more.
            os.kill(os.getpid(), self.requested)

    def install(self) -> None:
        """Take the signals; Lightning puts its own handlers in when a fit begins."""
        for signum in SIGNALS:
            signal.signal(signum, self._on_signal)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes during the block is raised at its end."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False
        if self.requested is not None:
            raise TrainingStopped(self.requested)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        insisted = self.insistent and self.requested is not None
        self.requested = signum
        if insisted or not self.deferred:
            raise TrainingStopped(signum)

    def _on_unraisable(self, unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, TrainingStopped):
            self._tell_unraisable(unraisable)
            return
        self.requested = None  # as if it had not come yet: it is no second one that will come
        again = threading.Timer(AGAIN, os.kill, (os.getpid(), unraisable.exc_value.signum))
        again.daemon = True
        again.start()


class StopOnSignal(pl.Callback):
    """Ends the fit after the step in which a signal came, to any process, with a checkpoint of exactly that step.

    Likewise where one of `listeners` gave a reason.
    """

    def __init__(
        self, signals: StopSignals, checkpoints: Checkpoints, listeners: Sequence[Listener] = ()
    ) -> None:
        self.signals = signals
        self.checkpoints = checkpoints
        self.listeners = listeners

    def on_train_start(self, *_: Any) -> None:
        """Take the signals back from Lightning."""
        self.signals.install()
        self.signals.deferred = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and leave, where there is a reason to and this step can be resumed from."""
        if not self.checkpoints.may_save(trainer.fit_loop.epoch_loop.batch_idx):
            return
        signum = largest(self.signals.requested or 0)
        reason = next((listener.ending for listener in self.listeners if listener.ending), None)
        if signum or reason:
            self.checkpoints.save(trainer)
            raise TrainingStopped(signum) if signum else RunEnded(reason)

    def on_train_end(self, *_: Any) -> None:
        """From here on a signal ends the run at once: the weights are about to be written."""
        self.signals.deferred = False
        if self.signals.requested is not None:
            raise TrainingStopped(self.signals.requested)
