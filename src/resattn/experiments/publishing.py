"""docs/results.md, written from what was published, comparisons and measurements, and never by hand."""

import itertools
import json
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from resattn.errors import ResattnError
from resattn.experiments.comparison_report import SOURCE
from resattn.experiments.results_sections import CONCLUSION, FIGURES, comparison, corruptions, localization
from resattn.experiments.wording import INTERVALS, SCORES
from resattn.figures import save
from resattn.files import whole_file, whole_text_file

EARLIER_CONCLUSION = "conclusion-of-earlier-runs.md"
HEAD = (
    """# Results

Written from the figures under [results/](results/), by `resattn compare NAME --publish docs`, and by `resattn
evaluate` with `--localization` or `--corruptions` and `--publish docs`; only the paragraphs headed *Conclusion* were
typed. In tables of comparisons stand mean ± standard deviation of one run over seeds, on all validation images unless
a section names others; training MACs are those of the forward passes of a whole run, in trillions.
"""
    + textwrap.fill(SCORES, 120)
    + """

Intervals. """
    + textwrap.fill(INTERVALS, 120)
    + "\n"
)


def publish(folder: Path, docs: Path) -> Path:
    """Copy the figures of the comparison in this folder to `docs`/results/NAME, and write `docs`/results.md anew.

    A conclusion that was written about other runs is no longer part of the page; it is kept under another name. Returns
    the page. Raises ResattnError where the folder holds no comparison, or one that is not finished, or the disk
    refuses.
    """
    if not (folder / SOURCE).exists():
        raise ResattnError(f"{folder} holds no comparison", "name a folder under runs/compare")
    _require_finished(folder / SOURCE)
    place = docs / "results" / folder.name
    _require_readable(docs, place)
    _retire_conclusion(place, _runs(place / SOURCE), _runs(folder / SOURCE))
    for name in (*FIGURES, SOURCE):
        with whole_file(place / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    return write_results_page(docs)


def _require_finished(source: Path) -> None:
    report = json.loads(source.read_text(encoding="utf-8"))
    left = [run for run in report["runs"] if run["state"] in ("unfinished", "missing")]
    if left:
        first = f"{left[0]['arm']}, seed {left[0]['seed']}"
        raise ResattnError(
            f"{len(left)} of {len(report['runs'])} runs are not finished ({first}): nothing was published",
            f"give `{report['command']}` again with --publish; runs of other processes have to end first",
        )


def _runs(source: Path) -> list[Any]:
    """What the runs of a comparison.json reached; nothing where it is not there."""
    if not source.exists():
        return []
    runs = json.loads(source.read_text(encoding="utf-8"))["runs"]
    return [(run["arm"], run["seed"], run["scores"]) for run in runs]


def _retire_conclusion(place: Path, before: Any, now: Any) -> None:
    """Put away a conclusion that was written about other figures than those that are there now."""
    conclusion = place / CONCLUSION
    if conclusion.exists() and before != now:
        earlier = _free(place / EARLIER_CONCLUSION)
        conclusion.replace(earlier)
        print(
            f"{conclusion} was written about other figures and is now {earlier.name}: write it anew",
            file=sys.stderr,
        )


def _free(path: Path) -> Path:
    """This path, or the first with a number behind its stem where nothing lies."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(each for each in (path, *itertools.islice(numbered, 1000)) if not each.exists())


def _require_readable(docs: Path, place: Path) -> None:
    """Raise ResattnError for another comparison than this one's that an earlier version published."""
    for path in (docs / "results").glob(f"*/{SOURCE}"):
        arms = json.loads(path.read_text(encoding="utf-8"))["arms"]
        if path.parent != place and any("epochs" not in arm for arm in arms):
            raise ResattnError(
                f"{path} is of an earlier version", "publish that comparison again, or remove it"
            )


def write_results_page(docs: Path) -> Path:
    """Write `docs`/results.md from all that lies in `docs`/results, in alphabetical order."""
    page = docs / "results.md"
    with whole_text_file(page) as file:
        file.write(results_page(docs))
    return page


def publish_measurement(
    kind: Literal["localization", "corruptions"],
    result: Mapping[str, Any],
    docs: Path,
    *,
    source: str,
    options: Sequence[str],
    drawing: Figure | None = None,
) -> Path:
    """Keep the figures of an evaluation under `docs`/results, without pictures of the data, and write results.md anew.

    `result` is what the evaluation's `to_json` gives, of `resattn evaluate SOURCE OPTIONS`; the same command again
    takes its place. `drawing` is shown above the table. Returns the page. Raises ResattnError where the disk refuses.
    """
    command = shlex.join(["resattn", "evaluate", source, *options])
    # Data and split are told by what they came to, and how many images are computed together changes nothing.
    told_otherwise = ("--data=", "--split=", "--batch-size=")
    others = [option for option in options[1:] if not option.startswith(told_otherwise)]
    said = [options[0].removeprefix("--"), source, result["data"], result["split"], *others]
    name = re.sub(r"[^\w.]+", "-", "-".join(said)).strip("-.")
    place = docs / "results" / name
    there = place / f"{kind}.json"
    # As it will be read: tuples become lists.
    told = json.loads(json.dumps({**result, "source": source, "command": command}))
    before = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}
    _retire_conclusion(place, {**before, "seconds": 0}, {**told, "seconds": 0})
    with whole_text_file(there) as file:
        file.write(json.dumps(told, indent=1) + "\n")
    if drawing:
        save(drawing, place / f"{kind}.png")
    return write_results_page(docs)


def results_page(docs: Path) -> str:
    """The text of results.md: comparisons first, each kind in alphabetical order."""
    writers = {SOURCE: comparison, "localization.json": localization, "corruptions.json": corruptions}
    sections = [
        "\n".join(write(path.parent, json.loads(path.read_text(encoding="utf-8"))))
        for source, write in writers.items()
        for path in sorted((docs / "results").glob(f"*/{source}"))
    ]
    return "\n".join([HEAD, *sections])
