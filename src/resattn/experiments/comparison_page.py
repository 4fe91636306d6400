"""A comparison as one HTML page that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resattn.experiments.wording import (
    COLUMNS,
    DIFFERENCE_COLUMNS,
    INTERVALS,
    SCORES,
    arm_row,
    data_in_words,
    difference_row,
    short_commit,
)
from resattn.files import whole_text_file

TEMPLATE = "comparison.html.j2"
ALT = {
    "accuracy": "Validation accuracy of each arm over the training",
    "loss": "Validation loss of each arm over the training",
    "scores": "Final validation accuracy of each run",
}


def write_page(report: Mapping[str, Any], drawn: Sequence[str], path: Path) -> None:
    """Write the page, with the figures `drawn` (the SVG files beside `path`) inside."""
    environment = Environment(
        loader=PackageLoader("resattn.experiments", "templates"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template(TEMPLATE).render(
        report=report,
        columns=COLUMNS,
        rows=[arm_row(arm) for arm in report["arms"]],
        difference_columns=DIFFERENCE_COLUMNS,
        differences=[difference_row(each) for each in report["differences"]],
        intervals=INTERVALS,
        scores=SCORES,
        data=data_in_words(report),
        machines=_machines(report["runs"]),
        figures=[(ALT[name], _inline(path.parent / f"{name}.svg")) for name in drawn],
        commit=short_commit,
        hours=sum(run["minutes"] for run in report["runs"]) / 60,
    )
    with whole_text_file(path) as file:
        file.write(page + "\n")


def _machines(runs: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Where the runs come from, or went on, each origin once, with how many there are of it."""
    met = [(run["origin"], *run["sittings"]) for run in runs if run["origin"]]
    origins = [each for sittings in met for each in sittings]
    different = [origin for number, origin in enumerate(origins) if origin not in origins[:number]]
    return [(sum(origin in sittings for sittings in met), origin) for origin in different]


def _inline(path: Path) -> Markup:
    """The drawing of an SVG file without its XML head, which has no place inside HTML; it is matplotlib's own."""
    text = path.read_text(encoding="utf-8")
    return Markup(text[text.index("<svg") :])
