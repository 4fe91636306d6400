"""What every fault starts from: a data set, a trained run to export, and a count of what was survived.

Few faults are tried in the suite; `make chaos` tries many, and counts those of each kind at the end.
Moments are drawn from a seed (`$RESATTN_CHAOS_SEED`) and stand in the test's name, so that one can be tried again:
`pytest 'tests/chaos/test_interruptions.py::test_...[train-SIGKILL-0.42]'`.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from disturbed_commands import Place, make_place

FAULTS: pytest.StashKey[Counter[str]] = pytest.StashKey()


@pytest.fixture(scope="session")
def prototype(tmp_path_factory: pytest.TempPathFactory, draw_dots) -> Place:
    """A workplace in which nothing has happened yet: pictures, data prepared from them, a finished run to export."""
    return make_place(tmp_path_factory.mktemp("chaos"), draw_dots)


@pytest.fixture
def place(prototype: Place, tmp_path: Path) -> Place:
    """A copy of it, for one test."""
    return Place(Path(shutil.copytree(prototype.path, tmp_path / "place")))


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with the kind of a fault that did no harm, so that the summary can count it."""
    counts = request.config.stash.setdefault(FAULTS, Counter())

    def note(kind: str) -> None:
        counts[kind] += 1

    return note


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts of a worker of pytest-xdist to the process that reports."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = dict(session.config.stash.get(FAULTS, Counter()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Add the counts of a worker that is done."""
    config, output = node.config, getattr(node, "workeroutput", {})  # type: ignore[attr-defined]
    config.stash.setdefault(FAULTS, Counter()).update(output.get("faults", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The number of faults by kind."""
    counts = config.stash.get(FAULTS, Counter[str]())
    if counts:
        terminalreporter.section(
            f"chaos: {counts.total():,} faults survived, seed {os.environ.get('RESATTN_CHAOS_SEED', '0')}"
        )
        for kind, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:>6,}  {kind}")
