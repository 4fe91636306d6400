"""Progress a person can read: a rich bar on a terminal, a plain line now and then everywhere else."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
PLAIN_LINE_SECONDS = 10.0


@contextmanager
def bar(*, total: int | None, description: str, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show progress on standard error, towards `total` where that is known; yields `advance(n)`.

    On a terminal it is one bar with rate and time left that disappears at the end; elsewhere (a log file, CI) a line
    every ten seconds, and none at all for work shorter than that.
    """
    if sys.stderr.isatty():
        with _rich_bar(total, description, unit) as advance:
            yield advance
    else:
        yield _plain_lines(total, description, unit)


@contextmanager
def _rich_bar(total: int | None, description: str, unit: str) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, rate="")

        def advance(count: int) -> None:
            done = progress.tasks[0].completed + count
            rate = done / max(time.monotonic() - started, 1e-6)
            progress.update(task, advance=count, rate=f"{rate:,.0f} {unit}/s")

        yield advance


def _plain_lines(total: int | None, description: str, unit: str) -> Callable[[int], None]:
    started = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= PLAIN_LINE_SECONDS:
            last = now
            rate = done / (now - started)
            line = f"{description}: {done:,} {unit}, {rate:,.0f} {unit}/s"
            if total is not None:
                left = (total - done) / max(rate, 1e-6)
                line = (
                    f"{description}: {done:,} of {total:,} {unit}, {rate:,.0f} {unit}/s, {left:,.0f} s left"
                )
            print(line, file=sys.stderr, flush=True)

    return advance


def track(iterable: Iterable[Item], *, total: int, description: str, unit: str = "images") -> Iterator[Item]:
    """Yield the items of `iterable` while a bar (see `bar`) advances by one for each."""
    with bar(total=total, description=description, unit=unit) as advance:
        for item in iterable:
            yield item
            advance(1)
