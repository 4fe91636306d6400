"""What a comparison leaves for people: comparison.json, figures as PNG and SVG, and one HTML page that holds it all."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resattn.data.held_out import HELD_OUT
from resattn.data.locking import locked
from resattn.data.packed import open_split
from resattn.experiments.arm_summary import ArmSummary, summarize
from resattn.experiments.comparison import Comparison
from resattn.experiments.comparison_figures import draw
from resattn.experiments.comparison_numbers import RunRecord, run_records
from resattn.experiments.comparison_page import write_page
from resattn.experiments.comparison_remarks import remarks
from resattn.experiments.held_equal import measured_apart, measured_elsewhere, measured_on
from resattn.experiments.paired_differences import Difference, contrast, difference
from resattn.experiments.planned_runs import POOL, PlannedRun, planned_runs
from resattn.files import make_folder, whole_text_file
from resattn.training.stopping import TrainingStopped

SOURCE = "comparison.json"


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """A comparison as it stands, and where its files lie.

    `data_form` and `measured_on` say in words what images there are, of the control where arms have others; `written`
    is the day of the report. `stopped` is the signal that ended this process's part.
    """

    name: str
    command: str
    question: str
    note: str
    equal: str
    held: str
    data: str
    data_form: str
    measured_on: str
    written: str
    arms: Sequence[ArmSummary]
    partners: Mapping[str, str]
    differences: Sequence[Difference]
    runs: Sequence[RunRecord]
    remarks: Sequence[str]
    folder: Path
    stopped: TrainingStopped | None = None

    @property
    def summary(self) -> str:
        """How many runs ended how."""
        counts = Counter(run.state for run in self.runs)
        return ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "no runs"

    def to_json(self) -> dict[str, Any]:
        """All figures; numbers that there are not are null."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("folder", "stopped")
        }
        return dict(_plain(fields))


def write_report(
    comparison: Comparison,
    runs: Sequence[PlannedRun],
    *,
    parent: Path,
    stopped: TrainingStopped | None = None,
) -> ComparisonReport:
    """Write the files of a comparison as it stands into `parent`/NAME, each whole or not at all.

    Raises ResattnError where the disk refuses.
    """
    folder = parent / comparison.name
    make_folder(folder)
    # Read under the lock: of two processes that finish together the later one to write knows of both.
    with locked(folder):
        comparison, runs = _with_seeds_there(comparison, runs, parent, folder)
        report = _report(comparison, runs, parent, folder, stopped)
        with whole_text_file(folder / SOURCE) as file:
            file.write(json.dumps(report.to_json(), indent=1) + "\n")
        drawn = draw(report.to_json(), folder)
        write_page(report.to_json(), drawn, folder / "report.html")
    return report


def _with_seeds_there(
    comparison: Comparison, runs: Sequence[PlannedRun], parent: Path, folder: Path
) -> tuple[Comparison, Sequence[PlannedRun]]:
    """The comparison with the seeds that a report of the same runs has already: it does not lose those of --seeds."""
    try:
        there = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return comparison, runs
    same = {run["folder"] for run in there["runs"] if run["seed"] < comparison.seeds}
    seeds = 1 + max(run["seed"] for run in there["runs"])
    if seeds <= comparison.seeds or same != {planned.folder.path.name for planned in runs}:
        return comparison, runs
    wider = dataclasses.replace(comparison, seeds=seeds, command=there["command"])
    return wider, planned_runs(wider, parent=parent)


def _report(
    comparison: Comparison,
    runs: Sequence[PlannedRun],
    parent: Path,
    folder: Path,
    stopped: TrainingStopped | None,
) -> ComparisonReport:
    records = run_records(runs)
    base = comparison.recipes[comparison.control]
    val = open_split(base.data, base.validate_on)
    kind = "held-out training images" if base.validate_on == HELD_OUT else "validation images"
    arms = [summarize(name, recipe, records, runs) for name, recipe in comparison.recipes.items()]
    pairs = [(arm, other) for arm, others in comparison.against.items() for other in others]
    return ComparisonReport(
        name=comparison.name,
        command=comparison.command,
        question=comparison.question,
        note=comparison.note,
        equal=comparison.equal,
        held=_held(comparison, measured_on(comparison, parent / POOL)),
        data=base.data,
        data_form=f"{len(val.class_ids)} classes, {val.images.shape[2]}x{val.images.shape[1]} pixels",
        measured_on=f"{len(val.images):,} {kind}",
        written=f"{datetime.now(UTC):%Y-%m-%d}",
        arms=arms,
        partners=comparison.partners,
        differences=[
            *(difference(records, arm, other) for arm, other in pairs),
            *(contrast(records, wanted) for wanted in comparison.contrasts),
        ],
        runs=records,
        remarks=remarks(
            comparison,
            records,
            apart=measured_apart(comparison, parent / POOL),
            elsewhere=measured_elsewhere(comparison, parent / POOL),
        ),
        folder=folder,
        stopped=stopped,
    )


def _held(comparison: Comparison, machine: str) -> str:
    """What is held equal, in words; `machine` is what a time was measured on."""
    said = ", ".join(f"{value:,} {name}" for name, value in comparison.length.items())
    time = f"{comparison.time} ({machine})" if machine else comparison.time
    return {
        "time": f"{time} of training, as steps that were measured in turns",
        "steps": f"as many steps for every run as the control makes in {time}"
        if time
        else f"{said} for every run",
        "macs": "as many multiply-accumulates for every run as the control's in " + (time or said),
    }[comparison.equal]


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, NaN as None: what JSON can say."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
