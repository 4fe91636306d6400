"""The figures of a comparison, from the figures in its comparison.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resattn import figures
from resattn.experiments.wording import data_in_words, in_points

KINDS = ("png", "svg")


def draw(report: Mapping[str, Any], folder: Path) -> list[str]:
    """Write accuracy, loss and scores of a comparison as PNG and SVG; returns the names without their endings."""
    told = f"{data_in_words(report)}, {_runs(report)}; bands from the lowest run to the highest"
    share = report["equal"] != "steps"  # where steps are not equal, equal places are shares of them
    partners = report["partners"]
    horizontal = "share of an arm's steps (%)" if share else "step"
    drawings = {
        "accuracy": figures.curves_by_arm(
            _curves(report, "top1", share, scale=100),
            horizontal=horizontal,
            vertical="validation top-1 (%)",
            partners=partners,
            title=report["question"],
            subtitle=told,
        ),
        "loss": figures.curves_by_arm(
            _curves(report, "loss", share),
            horizontal=horizontal,
            vertical="validation cross-entropy (nats)",
            form="{:.2f}",
            partners=partners,
            title=report["question"],
            subtitle=told,
        ),
        "scores": figures.scores_by_arm(
            {arm["name"]: _scores(report, arm["name"]) for arm in report["arms"]},
            notes=_notes(report["differences"]),
            partners=partners,
            horizontal="final validation top-1 (%): dots runs, lines means; at the right points [95 %, t]",
            title=report["question"],
            subtitle=f"{data_in_words(report)}; {report['held']}",
        ),
    }
    for name, drawing in drawings.items():
        for kind in KINDS:
            figures.save(drawing, folder / f"{name}.{kind}")
    return list(drawings)


def _notes(differences: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By arm, its difference from the first arm that it is compared with."""
    notes: dict[str, str] = {}
    for each in differences:
        notes.setdefault(each["arm"], in_points(each))
    return notes


def _runs(report: Mapping[str, Any]) -> str:
    finished = [arm["runs"] for arm in report["arms"]]
    fewest, most = min(finished), max(finished)
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{count} finished run{'' if fewest == most == 1 else 's'} an arm"


def _curves(
    report: Mapping[str, Any], score: str, share: bool, scale: float = 1.0
) -> dict[str, list[tuple[Any, Any]]]:
    """By arm, the curves of its finished runs, or of those under way where none is finished."""
    curves: dict[str, list[tuple[Any, Any]]] = {arm["name"]: [] for arm in report["arms"]}
    finished = {run["arm"] for run in report["runs"] if run["state"] == "finished"}
    for run in report["runs"]:
        if run["state"] != ("finished" if run["arm"] in finished else "unfinished"):
            continue
        values = scale * np.array(run["curve"][score], dtype=np.float64)
        places = np.array(run["curve"]["step"]) * (100 / run["planned_steps"] if share else 1)
        if len(values):
            curves[run["arm"]].append((places, values))
    return curves


def _scores(report: Mapping[str, Any], arm: str) -> Sequence[float]:
    finished = [run for run in report["runs"] if run["arm"] == arm and run["state"] == "finished"]
    return [100 * run["scores"]["top1"] for run in finished]
