"""A comparison: one question as a base recipe, arms that change named fields, and what is held equal."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resattn.errors import ResattnError
from resattn.experiments.search_space import parse_field, replaced
from resattn.files import is_file
from resattn.training.fine_tuning import starting_point
from resattn.training.own_images import with_packed_folder
from resattn.training.recipe import RUN_LENGTHS, Recipe, find_recipe, parse_duration
from resattn.training.yaml_fields import build, read_yaml

SHIPPED = Path(__file__).parent / "comparisons"
Equal = Literal["time", "steps", "macs"]
# What an arm may not change, and why.
HELD: Mapping[str, str] = {
    **dict.fromkeys(RUN_LENGTHS, "how long arms train is what is held equal"),
    "seed": "every arm is trained with the same seeds",
    "validate_on": "arms are measured on the same images",
    "size": "a folder is packed once for all arms; prepare it at each size to compare them, and name each arm's data",
}
HELD_WITH_STEPS: Mapping[str, str] = {
    "batch_size": "steps of other batches are not equal steps",
    "optimization.accumulate": "steps of other batches are not equal steps",
}


@dataclass(frozen=True, kw_only=True)
class ComparisonFile:
    """What a comparison file says; `resattn/experiments/comparisons/` has those that ship."""

    question: str
    """One line, which the report is headed by."""
    note: str = ""
    """What a reader should know beside it."""
    recipe: str | None = None
    """The base: a shipped recipe's name or a recipe file. Defaults of all fields where left out."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the base to change, by dotted name: what all arms share."""
    control: str = "control"
    """The name of the arm that is the base itself."""
    arms: dict[str, Any]
    """By name, the fields each further arm changes, by dotted name."""
    against: dict[str, Any] = field(default_factory=dict)
    """By arm, the arm it is compared with and whose colour it has in figures; else the control, and a colour apart."""
    equal: Equal = "time"
    """Held equal: training time (as the steps that fit into it, all arms measured in turns), steps, or
    multiply-accumulates of the whole training."""
    time: str | None = None
    """Training time of a run; with equal steps or multiply-accumulates, that of the control."""
    seeds: int = 3
    """Runs of each arm, with seeds 0, 1, 2, ..."""


@dataclass(frozen=True)
class Comparison:
    """A comparison that was checked: by arm, in order, its recipe (seed 0) without a length, the control first.

    `against` has an entry for each arm but the control, `partners` those that the file names. `time` is a duration such
    as 20m; None where `length` says how long the control trains: steps or epochs of the base. `command` is what was
    asked for, as one would type it.
    """

    name: str
    command: str
    question: str
    note: str
    equal: Equal
    control: str
    recipes: Mapping[str, Recipe]
    against: Mapping[str, str]
    partners: Mapping[str, str]
    seeds: int
    time: str | None
    length: Mapping[str, Any]


def find_comparison(name: str) -> Path:
    """The file behind a path or behind the name of a shipped comparison; ResattnError where there is neither."""
    if is_file(name):
        return Path(name)
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    raise ResattnError(f"there is no comparison {name}", f"name a YAML file, or one of: {', '.join(shipped)}")


def read_comparison(
    path: Path,
    *,
    time: str | None = None,
    seeds: int | None = None,
    fields: Sequence[str] = (),
    arms: Sequence[str] = (),
) -> Comparison:
    """Read and check a comparison file.

    `time` and `seeds` take the place of the file's; `fields` are "FIELD=VALUE" texts that change the base further;
    `arms` are those to train beside the control, all where empty. Raises ResattnError, naming the file and the field,
    for fields that are not there, values they do not take, an arm that changes nothing or is another arm once more, and
    lengths that are not equal though declared so.
    """
    source = f"comparison {path}"
    ships = path.resolve().parent == SHIPPED.resolve()
    if not ships and (SHIPPED / f"{path.stem}.yaml").exists():
        raise ResattnError(
            f"{path} is called like a comparison that ships, and would take the place of its report",
            "give the file another name",
        )
    options = [f"--time-per-run={time}"] * (time is not None) + [f"--seeds={seeds}"] * (seeds is not None)
    options += [f"--arms={arm}" for arm in arms] + [f"--set={text}" for text in fields]
    said: ComparisonFile = build(ComparisonFile, read_yaml(path), source=source)
    base = Recipe.from_yaml(find_recipe(said.recipe)) if said.recipe else Recipe()
    base = replaced(base, dict(_flat(said.fields)), f"{source}: fields")
    asked = dict(parse_field(text, base, source=f"--set {text}") for text in fields)
    _require_settable(said, asked, time or said.time)
    base = replaced(base, asked, source)
    seeds = said.seeds if seeds is None else seeds
    if seeds < 1:
        raise ResattnError(f"{source}: seeds is {seeds}", "a comparison trains each arm once or more")
    time, length = _length(base, said, time, source)
    recipes, against = _recipes(said, base, source), _against(said, source)
    chosen = _chosen(said, arms, against, source)
    named = path.stem if ships else str(path)
    return Comparison(
        name=path.stem,
        command=shlex.join(["resattn", "compare", named, *options]),
        question=said.question,
        note=said.note,
        equal=said.equal,
        control=said.control,
        recipes={arm: recipe for arm, recipe in recipes.items() if arm in chosen},
        against={arm: other for arm, other in against.items() if arm in chosen},
        partners={arm: str(other) for arm, other in said.against.items() if arm in chosen},
        seeds=seeds,
        time=time,
        length=length,
    )


def _require_settable(said: ComparisonFile, asked: Mapping[str, Any], time: str | None) -> None:
    """Raise ResattnError for a field whose value would not be taken, rather than pass over it."""
    if "seed" in asked or "seed" in said.fields:
        raise ResattnError(
            "seed is no field of a comparison",
            "say how many seeds there are: --seeds, or `seeds:` in the file",
        )
    for name in RUN_LENGTHS:
        if name in asked and time:
            raise ResattnError(
                f"--set {name}: a run's length is given as a time, {time}", "use --time-per-run"
            )


def _length(
    base: Recipe, said: ComparisonFile, time: str | None, source: str
) -> tuple[str | None, dict[str, Any]]:
    """The time of a run, or else what the base says of its steps."""
    length = {name: getattr(base, name) for name in RUN_LENGTHS if getattr(base, name) is not None}
    chosen = time or said.time or length.get("time")
    if chosen is not None:
        parse_duration(chosen)
        return chosen, {}
    if said.equal == "time":
        raise ResattnError(
            f"{source}: equal is time, and no time is given", "write a line such as `time: 10m`"
        )
    if not length:
        raise ResattnError(f"{source}: nothing says how long a run is", "write a line such as `time: 10m`")
    return None, length


def _recipes(said: ComparisonFile, base: Recipe, source: str) -> dict[str, Recipe]:
    if not said.arms:
        raise ResattnError(f"{source}: arms is empty", "name one arm or more beside the control")
    if said.control in said.arms:
        raise ResattnError(
            f"{source}: {said.control} is the control and an arm",
            "the control is the base itself: rename one",
        )
    base = _settled(base.replace(seed=0, **dict.fromkeys(RUN_LENGTHS)))
    recipes = {said.control: base}
    for name, changes in said.arms.items():
        where = f"{source}: arms.{name}"
        recipe = _arm(base, changes, said, where)
        twin = next((other for other, its in recipes.items() if its == recipe), None)
        if twin is not None:
            fields = ", ".join(changes) or "no field"
            raise ResattnError(
                f"{where} changes nothing: with {fields} as it says, it is {twin} once more",
                "change a field, or leave the arm out",
            )
        recipes[name] = recipe
    return recipes


def _arm(base: Recipe, changes: Any, said: ComparisonFile, where: str) -> Recipe:
    if not isinstance(changes, dict):
        raise ResattnError(f"{where} is {changes!r}", "write the fields it changes below it, one a line")
    held = HELD if said.equal != "steps" else {**HELD, **HELD_WITH_STEPS}
    for name in _dotted(changes):
        if name in held:
            raise ResattnError(
                f"{where}.{name}: {held[name]} (equal: {said.equal})", "set it for all arms, under `fields:`"
            )
    return _settled(replaced(base, dict(_flat(changes)), where))


def _settled(recipe: Recipe) -> Recipe:
    """The recipe as a run's folder will hold it: folders packed, and the options of the weights it starts from."""
    return starting_point(with_packed_folder(recipe))[0]


def _chosen(said: ComparisonFile, arms: Sequence[str], against: Mapping[str, str], source: str) -> set[str]:
    """The arms asked for, the control, and those that they are compared with."""
    for name in arms:
        if name not in said.arms:
            raise ResattnError(f"{source} has no arm {name!r}", f"its arms are {', '.join(said.arms)}")
    chosen = set(arms or said.arms)
    return chosen | {said.control} | {against[arm] for arm in chosen}


def _flat(changes: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Fields by dotted name, whether the file groups them or not."""
    pairs: list[tuple[str, Any]] = []
    for name, value in changes.items():
        if isinstance(value, dict) and value:
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value))
    return pairs


def _dotted(changes: Mapping[str, Any]) -> list[str]:
    return [name for name, _ in _flat(changes)]


def _against(said: ComparisonFile, source: str) -> dict[str, str]:
    for arm, other in said.against.items():
        if isinstance(other, list | dict):
            raise ResattnError(f"{source}: against.{arm} is {other}", "name one arm")
        for name in (arm, other):
            if name not in said.arms and name != said.control:
                raise ResattnError(
                    f"{source}: against names {name!r}, which is no arm",
                    f"arms are {', '.join([said.control, *said.arms])}",
                )
        if arm == other:
            raise ResattnError(f"{source}: against.{arm} is {other}", "compare it with another arm")
    return {arm: str(said.against.get(arm, said.control)) for arm in said.arms}
