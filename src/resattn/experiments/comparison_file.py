"""What a comparison file may say, and which ship."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resattn.errors import ResattnError
from resattn.training.yaml_fields import build, find_yaml, read_yaml

SHIPPED = Path(__file__).parent / "comparisons"
Equal = Literal["time", "steps", "macs"]


@dataclass(frozen=True, kw_only=True)
class ComparisonFile:
    """What a comparison file says; `resattn/experiments/comparisons/` has those that ship."""

    question: str
    """One line, which the report is headed by."""
    note: str = ""
    """What a reader should know beside it, however it is asked."""
    budget: str = ""
    """What the note adds of recipe, data and length as the file has them; left out where the command changes them."""
    recipe: str | None = None
    """The base: a shipped recipe's name or a recipe file. Defaults of all fields where left out."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the base to change, by dotted name: what all arms share."""
    control: str = "control"
    """The name of the arm that is the base itself."""
    arms: dict[str, Any]
    """By name, the fields each further arm changes, by dotted name."""
    against: dict[str, Any] = field(default_factory=dict)
    """By arm, the arm or the arms it is compared with, else the control. It is drawn in the colour of the first."""
    contrasts: dict[str, Any] = field(default_factory=dict)
    """By name, four arms a, b, c, d: how much more a has over b than c has over d."""
    equal: Equal = "time"
    """Held equal: training time (as the steps that fit into it, all arms measured in turns), steps, or
    multiply-accumulates of the whole training."""
    time: str | None = None
    """Training time of a run; with equal steps or multiply-accumulates, that of the control."""
    seeds: int = 3
    """Runs of each arm, with seeds 0, 1, 2, ..."""


@dataclass(frozen=True)
class Contrast:
    """A difference of differences: what the first of four arms has over the second, less the third over the fourth."""

    name: str
    arms: tuple[str, str, str, str]


def find_comparison(name: str) -> Path:
    """The file behind a path or behind the name of a shipped comparison; ResattnError where there is neither."""
    return find_yaml(name, SHIPPED, "comparison")


def read_file(path: Path, source: str) -> ComparisonFile:
    """Read what the file says, fields and types checked; ResattnError naming `source` and the field."""
    said: ComparisonFile = build(ComparisonFile, read_yaml(path, "comparison"), source=source)
    if not said.arms:
        raise ResattnError(f"{source}: arms is empty", "name one arm or more beside the control")
    if said.control in said.arms:
        raise ResattnError(
            f"{source}: {said.control} is the control and an arm",
            "the control is the base itself: rename one",
        )
    return said


def partners_of(said: ComparisonFile, source: str) -> dict[str, tuple[str, ...]]:
    """By arm, in order, the arms that it is compared with; ResattnError for what is no arm, or the arm itself."""
    named = {}
    for arm, others in said.against.items():
        where = f"{source}: against"
        _require_arms(said, [arm], where)
        if arm == said.control:
            raise ResattnError(f"{where} names {arm}, the control", "compare other arms with it")
        named[arm] = tuple(map(str, others if isinstance(others, list) else [others]))
        _require_arms(said, named[arm], f"{where}.{arm}")
        if arm in named[arm] or len(set(named[arm])) < len(named[arm]) or not named[arm]:
            raise ResattnError(f"{where}.{arm} is {others}", "compare it with other arms, each once")
    return named


def contrasts_of(said: ComparisonFile, source: str) -> list[Contrast]:
    """The contrasts; ResattnError where one has not four arms, or its two differences are one."""
    contrasts = []
    for name, arms in said.contrasts.items():
        where = f"{source}: contrasts.{name}"
        if not isinstance(arms, list) or len(arms) != 4 or not _differ(*arms):
            raise ResattnError(
                f"{where} is {arms}", "give four arms, [a, b, c, d]: how much more a has over b than c over d"
            )
        if name in said.arms or name == said.control:
            raise ResattnError(f"{where} is called like an arm", "give it another name")
        _require_arms(said, [*map(str, arms)], where)
        contrasts.append(Contrast(name, (str(arms[0]), str(arms[1]), str(arms[2]), str(arms[3]))))
    return contrasts


def _differ(first: object, second: object, third: object, fourth: object) -> bool:
    return first != second and third != fourth and (first, second) != (third, fourth)


def _require_arms(said: ComparisonFile, names: Sequence[str], where: str) -> None:
    for name in names:
        if name not in said.arms and name != said.control:
            raise ResattnError(
                f"{where} names {name!r}, which is no arm",
                f"arms are {', '.join([said.control, *said.arms])}",
            )
