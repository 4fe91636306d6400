"""docs/results.md, written from what was published, comparisons and measurements, and never by hand."""

import json
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from resattn.errors import ResattnError
from resattn.experiments.results_sections import FIGURES, comparison, corruptions, localization
from resattn.files import whole_file, whole_text_file

SOURCE = "comparison.json"
HEAD = """# Results

Written from the figures under [results/](results/), by `resattn compare NAME --publish docs`, and by `resattn
evaluate` with `--localization` or `--corruptions` and `--publish docs`; only the paragraphs headed *Conclusion* were
typed. Scores of comparisons are mean ± standard deviation of one run over seeds, single view, on all validation
images unless a section names others. Intervals are the percentile bootstrap's over seeds (95 %): of few seeds too
narrow, and of three never wider than from the smallest difference to the largest.
"""


def publish(folder: Path, docs: Path) -> Path:
    """Copy the figures of the comparison in this folder to `docs`/results/NAME, and write `docs`/results.md anew.

    Returns the page. Raises ResattnError where the folder holds no comparison, or the disk refuses.
    """
    if not (folder / SOURCE).exists():
        raise ResattnError(f"{folder} holds no comparison", "name a folder under runs/compare")
    for name in (*FIGURES, SOURCE):
        with whole_file(docs / "results" / folder.name / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    return write_results_page(docs)


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
    with whole_text_file(docs / "results" / name / f"{kind}.json") as file:
        file.write(json.dumps({**result, "source": source, "command": command}, indent=1) + "\n")
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
