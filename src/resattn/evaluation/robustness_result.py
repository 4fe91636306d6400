"""What an evaluation under common corruptions found, and the files it becomes."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from resattn import figures
from resattn.evaluation.corruptions import SEVERITIES, Kind
from resattn.evaluation.pixels import Pixels
from resattn.files import whole_text_file

EXAMPLE_SEVERITIES = (1, 3, 5)


@dataclass(frozen=True)
class FamilyScore:
    """Top-1 of one family of corruptions at severities 1 to 5, fractions of 1, and of how many images each is."""

    name: str
    kind: Kind
    top1: tuple[float, ...]
    images: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The mean over the severities, each weighing the same."""
        return sum(self.top1) / len(self.top1)


@dataclass(frozen=True, eq=False)
class RobustnessResult:
    """What was found; families stand in the order noise, blur, weather, digital.

    `images` counts different photographs, each of which is seen in every family and severity. `clean_top1` is of
    uncorrupted ones, of `data` and `split`. `corruptions` says where the corrupted ones come from: "made here", or of
    an archive. `examples` has, by family, one photograph at severities 1, 3 and 5, uint8 3 x H x W x 3. `seconds` is
    wall-clock time.
    """

    data: str
    split: str
    corruptions: str
    images: int
    clean_top1: float
    families: tuple[FamilyScore, ...]
    notes: tuple[str, ...]
    examples: Mapping[str, Pixels]
    seconds: float
    model: str
    precision: str
    device: str

    @property
    def mean_corruption_accuracy(self) -> float:
        """The mean over families of the mean over severities, a fraction of 1."""
        return sum(family.mean for family in self.families) / len(self.families)

    def to_json(self) -> dict[str, Any]:
        """All but the examples as one object for corruptions.json."""
        families = {
            family.name: {
                "kind": family.kind,
                "top1": list(family.top1),
                "mean": family.mean,
                "images": list(family.images),
            }
            for family in self.families
        }
        return {
            "data": self.data,
            "split": self.split,
            "corruptions": self.corruptions,
            "images": self.images,
            "clean_top1": self.clean_top1,
            "mean_corruption_accuracy": self.mean_corruption_accuracy,
            "families": families,
            "notes": list(self.notes),
            "model": self.model,
            "seconds": round(self.seconds, 3),
            "precision": self.precision,
            "device": self.device,
        }


def write_robustness(result: RobustnessResult, folder: Path) -> None:
    """Write corruptions.csv, corruptions.png and, last, corruptions.json (`to_json()`), each whole or not at all.

    Missing folders are made. Raises ResattnError where the folder cannot be written.
    """
    with whole_text_file(folder / "corruptions.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["family", "kind", "severity", "images", "top1"])
        for family in result.families:
            for cell in zip(SEVERITIES, family.images, family.top1, strict=True):
                writer.writerow([family.name, family.kind, *cell[:2], f"{cell[2]:.6g}"])
    figures.save(draw_robustness(result), folder / "corruptions.png")
    with whole_text_file(folder / "corruptions.json") as file:
        file.write(json.dumps(result.to_json(), indent=2) + "\n")


def draw_robustness(result: RobustnessResult, *, examples: bool = True) -> Figure:
    """Top-1 by family and severity, and an example of each where wanted."""
    families = result.families
    return figures.corruption_accuracy(
        [family.name for family in families],
        [family.kind for family in families],
        [family.top1 for family in families],
        clean=result.clean_top1,
        examples=[result.examples[family.name] for family in families] if examples else None,
        example_severities=EXAMPLE_SEVERITIES,
        title=f"{result.model} under common corruptions of {result.data}",
        subtitle=_subtitle(result),
    )


def _subtitle(result: RobustnessResult) -> str:
    return (
        f"mean corruption accuracy {result.mean_corruption_accuracy:.1%}, clean top-1 {result.clean_top1:.1%}; "
        f"{result.images:,} images, corruptions {result.corruptions}"
    )
