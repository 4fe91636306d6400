"""The sections of docs/results.md, line by line, from the JSON of what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resattn.experiments.wording import (
    COLUMNS,
    DIFFERENCE_COLUMNS,
    arm_row,
    data_in_words,
    difference_row,
    short_commit,
)

FIGURES = ("accuracy.png", "loss.png", "scores.png")
# What people write about a result: below its table, as it stands in this file.
CONCLUSION = "conclusion.md"


def comparison(folder: Path, report: Mapping[str, Any]) -> Iterator[str]:
    """Of a comparison.json, with the figures beside it."""
    yield f"## {report['question']}\n"
    if report["note"]:
        yield f"{report['note']}\n"
    hours = sum(run["minutes"] for run in report["runs"]) / 60
    yield f"`{report['command']}`: {data_in_words(report)}; held equal: {report['held']}."
    yield f"{_machine(report['runs'])} {hours:.1f} hours of training in all.\n"
    yield from _table(COLUMNS, [arm_row(arm) for arm in report["arms"]])
    yield ""
    yield from _table(DIFFERENCE_COLUMNS, [difference_row(each) for each in report["differences"]])
    yield ""
    for remark in report["remarks"]:
        yield f"- Note: {remark}"
    if report["remarks"]:
        yield ""
    for name in FIGURES:
        yield f"![{name.removesuffix('.png')}](results/{quote(folder.name)}/{name})"
    yield ""
    yield from _conclusion(folder)


def _conclusion(folder: Path) -> Iterator[str]:
    if (folder / CONCLUSION).exists():
        yield "**Conclusion.** " + (folder / CONCLUSION).read_text(encoding="utf-8").strip() + "\n"


def localization(folder: Path, result: Mapping[str, Any]) -> Iterator[str]:
    """Of a localization.json."""
    yield f"## Where does {result['source']} look, on {result['data']}?\n"
    yield f"`{result['command']}`: {result['images']:,} images of {result['split']}"
    yield f"with boxes; thresholds tuned on {result['tuning_images']:,} boxes of {result['tuning_split']}. Pointing:"
    yield "the map's maximum lies in the box. Energy: how many times what a map that knows nothing has in the box."
    yield "Box accuracy: IoU of 0.5 or more.\n"
    columns = ("saliency", "kind", "pointing", "energy", "box accuracy", "threshold")
    yield from _table(
        columns,
        [
            [
                score["name"],
                score["kind"],
                f"{score['pointing']:.1%}",
                f"{score['energy']:.3f}",
                f"{score['box_accuracy']:.1%}",
                f"{score['threshold']:g}",
            ]
            for score in result["scores"]
        ],
    )
    yield ""
    yield from _conclusion(folder)


def corruptions(folder: Path, result: Mapping[str, Any]) -> Iterator[str]:
    """Of a corruptions.json."""
    yield f"## What does {result['source']} bear, on {result['data']}?\n"
    mean, clean = (f"{result[name]:.2%}" for name in ("mean_corruption_accuracy", "clean_top1"))
    yield f"`{result['command']}`: top-1 on {result['images']:,} images of"
    yield f"{result['split']}, corruptions {result['corruptions']}."
    yield f"Mean corruption accuracy **{mean}**; clean {clean}. {result['precision']} on {result['device']}.\n"
    if (folder / "corruptions.png").exists():
        yield f"![corruptions](results/{quote(folder.name)}/corruptions.png)\n"
    families: Mapping[str, Any] = result["families"]
    severities = range(1, 1 + max(len(family["top1"]) for family in families.values()))
    yield from _table(
        ("corruption", "kind", *map(str, severities), "mean"),
        [
            [
                name.replace("_", " "),
                family["kind"],
                *(f"{top1:.1%}" for top1 in family["top1"]),
                f"{family['mean']:.1%}",
            ]
            for name, family in families.items()
        ],
    )
    yield ""
    for note in result["notes"]:
        yield f"- Note: {note}"
    if result["notes"]:
        yield ""
    yield from _conclusion(folder)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---|---|" + "---:|" * (len(columns) - 2)
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"


def _cell(text: str) -> str:
    """As Markdown shows it inside a table: a bar would begin the next cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _machine(runs: Sequence[Mapping[str, Any]]) -> str:
    """Processor, threads and commits of the runs, as they were recorded."""
    # An earlier version wrote down only how a run began.
    origins = [each for run in runs if run["origin"] for each in (run["origin"], *run.get("sittings", []))]
    if not origins:
        return "No run has begun."
    machines = sorted({f"{each['cpu']}, {each['threads']} threads, {each['device']}" for each in origins})
    commits = sorted({short_commit(each["commit"]) for each in origins})
    return f"{'; '.join(machines)}; commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}."
