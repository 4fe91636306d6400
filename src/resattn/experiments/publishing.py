"""docs/results.md, written from the comparisons that were published and never by hand."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from resattn.errors import ResattnError
from resattn.experiments.wording import COLUMNS, arm_row, in_points, short_commit
from resattn.files import whole_file, whole_text_file

FIGURES = ("accuracy.png", "loss.png", "scores.png")
SOURCE = "comparison.json"
# What people write about a comparison: below its table, as it stands in this file.
CONCLUSION = "conclusion.md"
HEAD = """# Results

Written by `resattn compare NAME --publish docs` from the figures under [results/](results/); only the paragraphs
headed *Conclusion* were typed. Scores are mean ± standard deviation of one run over seeds, single view, on the whole
validation split. Intervals are the percentile bootstrap's over seeds (95 %): of few seeds too narrow, and of three
never wider than from the smallest difference to the largest.
"""


def publish(comparison: Path, docs: Path) -> Path:
    """Copy the figures of the comparison in this folder to `docs`/results/NAME, and write `docs`/results.md anew.

    Returns the page. Raises ResattnError where the folder holds no comparison, or the disk refuses.
    """
    if not (comparison / SOURCE).exists():
        raise ResattnError(f"{comparison} holds no comparison", "name a folder under runs/compare")
    for name in (*FIGURES, SOURCE):
        with whole_file(docs / "results" / comparison.name / name) as temporary:
            shutil.copyfile(comparison / name, temporary)
    return write_results_page(docs)


def write_results_page(docs: Path) -> Path:
    """Write `docs`/results.md from all that lies in `docs`/results, in alphabetical order."""
    page = docs / "results.md"
    with whole_text_file(page) as file:
        file.write(results_page(docs))
    return page


def results_page(docs: Path) -> str:
    """The text of results.md."""
    sections = [
        "\n".join(_section(path.parent, json.loads(path.read_text(encoding="utf-8"))))
        for path in sorted((docs / "results").glob(f"*/{SOURCE}"))
    ]
    return "\n".join([HEAD, *sections])


def _section(folder: Path, report: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {report['question']}\n"
    if report["note"]:
        yield f"{report['note']}\n"
    hours = sum(run["minutes"] for run in report["runs"]) / 60
    yield f"`resattn compare {report['name']}`: {report['data']}; held equal: {report['held']}."
    yield f"{_machine(report['runs'])} {hours:.1f} hours of training in all.\n"
    yield from _table(COLUMNS, [arm_row(arm) for arm in report["arms"]])
    yield "\nTop-1, in points, seed by seed:\n"
    for each in report["differences"]:
        yield f"- {each['arm']}: {in_points(each)}"
    for remark in report["remarks"]:
        yield f"- Note: {remark}"
    yield ""
    for name in FIGURES:
        yield f"![{name.removesuffix('.png')}](results/{folder.name}/{name})"
    yield ""
    if (folder / CONCLUSION).exists():
        yield "**Conclusion.** " + (folder / CONCLUSION).read_text(encoding="utf-8").strip() + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---|---|" + "---:|" * (len(columns) - 2)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _machine(runs: Sequence[Mapping[str, Any]]) -> str:
    """Processor, threads and commits of the runs, as they were recorded."""
    origins = [run["origin"] for run in runs if run["origin"]]
    if not origins:
        return "No run has begun."
    machines = sorted({f"{each['cpu']}, {each['threads']} threads, {each['device']}" for each in origins})
    commits = sorted({short_commit(each["commit"]) for each in origins})
    return f"{'; '.join(machines)}; commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}."
