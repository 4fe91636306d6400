"""Signals that come at moments in which nothing can be raised."""

import signal
import time
from contextlib import nullcontext

import pytest

from resattn.errors import CannotWrite
from resattn.training.stopping import StopSignals, TrainingStopped


class SignalsAtItsEnd:
    """Its finalizer is where the signal comes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def stopped_while(signals: StopSignals, *, held: bool) -> tuple[int | None, int]:
    """What ended some steps, if anything, behind a finalizer that swallowed a signal; and how many were made."""
    steps = 0
    try:
        with signals:
            SignalsAtItsEnd()
            with signals.held() if held else nullcontext():
                for _ in range(20):
                    time.sleep(0.02)
                    steps += 1
    except TrainingStopped as stopped:
        return stopped.exit_status, steps
    return None, steps


def test_a_signal_that_a_finalizer_swallows_comes_again() -> None:
    status, steps = stopped_while(StopSignals(), held=False)
    assert status == 128 + signal.SIGTERM
    assert steps < 20


def test_a_signal_that_a_finalizer_swallows_is_no_second_one() -> None:
    assert stopped_while(StopSignals(), held=True) == (128 + signal.SIGTERM, 20)


def test_other_failures_of_finalizers_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails:
        def __del__(self) -> None:
            raise ValueError

    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    with StopSignals():
        Fails()
    assert told == [ValueError]


def test_a_signal_that_came_while_something_else_ended_the_block_is_passed_on() -> None:
    def ends_otherwise() -> None:
        with StopSignals() as inner, inner.held():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError

    with pytest.raises(TrainingStopped), StopSignals():
        ends_otherwise()


def test_a_save_that_failed_weighs_more_than_the_signal_it_was_for() -> None:
    def fails_to_save() -> None:
        with StopSignals() as inner, inner.held():
            signal.raise_signal(signal.SIGTERM)
            raise CannotWrite("the disk is full")

    with pytest.raises(CannotWrite), StopSignals():
        fails_to_save()
