"""docs/results.md, written from what was published, comparisons and measurements, and never by hand."""

import json
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from resattn.errors import ResattnError
from resattn.experiments.results_sections import CONCLUSION, FIGURES, comparison, corruptions, localization
from resattn.experiments.wording import INTERVALS
from resattn.files import whole_file, whole_text_file

SOURCE = "comparison.json"
EARLIER_CONCLUSION = "conclusion-of-earlier-runs.md"
HEAD = (
    """# Results

Written from the figures under [results/](results/), by `resattn compare NAME --publish docs`, and by `resattn
evaluate` with `--localization` or `--corruptions` and `--publish docs`; only the paragraphs headed *Conclusion* were
typed. Scores of comparisons are mean ± standard deviation of one run over seeds, single view, on all validation
images unless a section names others; training MACs are those of the forward passes of a whole run, in trillions.

Intervals. """
    + textwrap.fill(INTERVALS, 120)
    + "\n"
)


def publish(folder: Path, docs: Path) -> Path:
    """Copy the figures of the comparison in this folder to `docs`/results/NAME, and write `docs`/results.md anew.

    A conclusion that was written about other runs is no longer part of the page; it is kept under another name. Returns
    the page. Raises ResattnError where the folder holds no comparison, or the disk refuses.
    """
    if not (folder / SOURCE).exists():
        raise ResattnError(f"{folder} holds no comparison", "name a folder under runs/compare")
    place = docs / "results" / folder.name
    _require_readable(docs, place)
    _retire_conclusion(place, _runs(place / SOURCE), _runs(folder / SOURCE))
    for name in (*FIGURES, SOURCE):
        with whole_file(place / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    return write_results_page(docs)


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
        conclusion.replace(place / EARLIER_CONCLUSION)
        print(
            f"{conclusion} was written about other figures and is now {EARLIER_CONCLUSION}: write it anew",
            file=sys.stderr,
        )


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
) -> Path:
    """Keep the figures of an evaluation under `docs`/results, without pictures of the data, and write results.md anew.

    `result` is what the evaluation's `to_json` gives, of `resattn evaluate SOURCE OPTIONS`; the same command again
    takes its place. Returns the page. Raises ResattnError where the disk refuses.
    """
    command = shlex.join(["resattn", "evaluate", source, *options])
    said = [options[0].removeprefix("--"), source, result["data"], result["split"], *options[1:]]
    name = re.sub(r"[^\w.]+", "-", "-".join(said)).strip("-.")
    place = docs / "results" / name
    there = place / f"{kind}.json"
    told = {**result, "source": source, "command": command}
    before = json.loads(there.read_text(encoding="utf-8")) if there.exists() else {}
    _retire_conclusion(place, {**before, "seconds": 0}, {**told, "seconds": 0})
    with whole_text_file(there) as file:
        file.write(json.dumps(told, indent=1) + "\n")
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
