"""Ctrl-C and SIGTERM: save, say how to go on, and leave."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

import pytorch_lightning as pl

from resattn.training.checkpoints import Checkpoints

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStopped(BaseException):
    """A signal asked the run to end; a BaseException, as KeyboardInterrupt is, so that nothing swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells expect."""
        return 128 + self.signum


class StopSignals:
    """While entered, the first signal is remembered during steps and raised elsewhere; a second one always raises."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self.deferred = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def install(self) -> None:
        """Take the signals; Lightning puts its own handlers in when a fit begins."""
        for signum in SIGNALS:
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        insisted = self.requested is not None
        self.requested = signum
        if insisted or not self.deferred:
            raise TrainingStopped(signum)


class StopOnSignal(pl.Callback):
    """Ends the fit after the step in which a signal came, with a checkpoint of exactly that step."""

    def __init__(self, signals: StopSignals, checkpoints: Checkpoints) -> None:
        self.signals = signals
        self.checkpoints = checkpoints

    def on_train_start(self, *_: Any) -> None:
        """Take the signals back from Lightning."""
        self.signals.install()
        self.signals.deferred = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and leave, where a signal came and this step can be resumed from."""
        if self.signals.requested is None:
            return
        if self.checkpoints.may_save(trainer.fit_loop.epoch_loop.batch_idx):
            self.checkpoints.save(trainer)
            raise TrainingStopped(self.signals.requested)

    def on_train_end(self, *_: Any) -> None:
        """From here on a signal ends the run at once: the weights are about to be written."""
        self.signals.deferred = False
        if self.signals.requested is not None:
            raise TrainingStopped(self.signals.requested)
