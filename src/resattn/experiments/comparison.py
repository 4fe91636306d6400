"""A comparison: one question as a base recipe, arms that change named fields, and what is held equal."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resattn.errors import ResattnError
from resattn.experiments.comparison_file import (
    SHIPPED,
    ComparisonFile,
    Contrast,
    Equal,
    contrasts_of,
    partners_of,
    read_file,
)
from resattn.experiments.comparison_options import Options
from resattn.experiments.recipe_effect import effective
from resattn.experiments.search_space import parse_field, replaced
from resattn.training.fine_tuning import starting_point
from resattn.training.own_images import with_packed_folder
from resattn.training.recipe import RUN_LENGTHS, Recipe, find_recipe, parse_duration

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


@dataclass(frozen=True)
class Comparison:
    """A comparison that was checked: by arm, in order, its recipe (seed 0) without a length, the control first.

    `name` is the file's, with the options that change its runs. `against` has one arm or more for each but the
    control, `partners` the arm in whose colour another is drawn. `time` is a duration such as 20m; None where `length`
    says how long the control trains: steps or epochs of the base. `command` is what was asked for, as one would type
    it.
    """

    name: str
    command: str
    question: str
    note: str
    equal: Equal
    control: str
    recipes: Mapping[str, Recipe]
    against: Mapping[str, Sequence[str]]
    partners: Mapping[str, str]
    contrasts: Sequence[Contrast]
    seeds: int
    time: str | None
    length: Mapping[str, Any]


def read_comparison(
    path: Path,
    *,
    recipe: str | None = None,
    time: str | None = None,
    seeds: int | None = None,
    fields: Sequence[str] = (),
    arms: Sequence[str] = (),
) -> Comparison:
    """Read and check a comparison file.

    `recipe`, the name of one or its file, takes the place of the base and of all that the file says but its networks
    and the images it measures on; where it has no time, equal time becomes equal steps. `time` and `seeds` take the
    place of the file's; `fields` are "FIELD=VALUE" texts that change the base further; `arms` are those to train beside
    the control, all where empty. Raises ResattnError, naming the file and the field, for fields that are not there,
    values they do not take, an arm that changes nothing or is another arm once more, and lengths that are not equal
    though declared so.
    """
    source = f"comparison {path}"
    options = Options(recipe=recipe, time=time, seeds=seeds, fields=tuple(fields), arms=tuple(arms))
    _require_own_name(path)
    said = read_file(path, source)
    seeds = said.seeds if seeds is None else seeds
    if seeds < 1:
        raise ResattnError(f"{source}: seeds is {seeds}", "a comparison trains each arm once or more")
    said, base = _base(said, options, source)
    time, length = _length(base, said, time, source)
    recipes, named = _recipes(said, base, source), partners_of(said, source)
    against = {arm: named.get(arm, (said.control,)) for arm in said.arms}
    chosen = _chosen(said, arms, against, source)
    return Comparison(
        name=options.name(path, said),
        command=options.command(path),
        question=said.question,
        note=options.note(said),
        equal=said.equal,
        control=said.control,
        recipes={arm: its for arm, its in recipes.items() if arm in chosen},
        against={
            arm: [other for other in others if other in chosen]
            for arm, others in against.items()
            if arm in chosen
        },
        partners={arm: others[0] for arm, others in named.items() if chosen.issuperset((arm, others[0]))},
        contrasts=[each for each in contrasts_of(said, source) if chosen.issuperset(each.arms)],
        seeds=seeds,
        time=time,
        length=length,
    )


def _require_own_name(path: Path) -> None:
    if path.resolve().parent != SHIPPED.resolve() and (SHIPPED / f"{path.stem}.yaml").exists():
        raise ResattnError(
            f"{path} is called like a comparison that ships, and would take the place of its report",
            "give the file another name",
        )


def _base(said: ComparisonFile, options: Options, source: str) -> tuple[ComparisonFile, Recipe]:
    """The recipe that all arms share, with a length; and the file, as far as it still holds by another recipe."""
    base = Recipe.from_yaml(find_recipe(said.recipe)) if said.recipe else Recipe()
    base = replaced(base, dict(_flat(said.fields)), f"{source}: fields")
    _require_one_length(said, source)
    if options.recipe is not None:
        other = Recipe.from_yaml(find_recipe(options.recipe))
        base = other.replace(model=base.model, model_options=base.model_options, validate_on=base.validate_on)
        said = dataclasses.replace(said, time=None)
    asked = dict(parse_field(text, base, source=f"--set {text}") for text in options.fields)
    _require_settable(said, asked, options.time or said.time)
    base = replaced(base, asked, source)
    if options.recipe is not None and not (options.time or base.time):
        # A recipe of so many steps or epochs has no time that could be held equal.
        said = dataclasses.replace(said, equal=_without_time(said.equal))
    return said, base


def _without_time(equal: Equal) -> Equal:
    return "steps" if equal == "time" else equal


def _require_one_length(said: ComparisonFile, source: str) -> None:
    for name in RUN_LENGTHS:
        if name in said.fields and said.time:
            raise ResattnError(
                f"{source}: fields.{name} and time, {said.time}, say twice how long a run is",
                "keep one of them",
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
    chosen = time or said.time
    # A recipe out of a run's folder has the steps that fitted into its time, too.
    if chosen is None and (said.equal == "time" or len(length) == 1):
        chosen = length.get("time")
    if chosen is not None:
        _require_duration(chosen, "--time-per-run" if time else f"{source}: time")
        return chosen, {}
    if said.equal == "time":
        raise ResattnError(
            f"{source}: equal is time, and no time is given", "write a line such as `time: 10m`"
        )
    if not length:
        raise ResattnError(f"{source}: nothing says how long a run is", "write a line such as `time: 10m`")
    length.pop("time", None)
    return None, length


def _require_duration(text: str, where: str) -> None:
    try:
        parse_duration(text)
    except ResattnError as error:
        raise ResattnError(f"{where}: {error.what}", error.mend) from error


def _recipes(said: ComparisonFile, base: Recipe, source: str) -> dict[str, Recipe]:
    base = _settled(base.replace(seed=0, **dict.fromkeys(RUN_LENGTHS)))
    recipes = {said.control: base}
    for name, changes in said.arms.items():
        where = f"{source}: arms.{name}"
        recipe = _arm(base, changes, said, where)
        twin = next((other for other, its in recipes.items() if effective(its) == effective(recipe)), None)
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
    fields = dict(_flat(changes))
    for name in fields:
        if name in held:
            raise ResattnError(
                f"{where}.{name}: {held[name]} (equal: {said.equal})", "set it for all arms, under `fields:`"
            )
    return _settled(replaced(base, fields, where))


def _settled(recipe: Recipe) -> Recipe:
    """The recipe as a run's folder will hold it: folders packed, and the options of the weights it starts from."""
    return starting_point(with_packed_folder(recipe))[0]


def _chosen(
    said: ComparisonFile, arms: Sequence[str], against: Mapping[str, Sequence[str]], source: str
) -> set[str]:
    """The arms asked for, the control, and those that they are compared with."""
    for name in arms:
        if name not in said.arms:
            raise ResattnError(f"{source} has no arm {name!r}", f"its arms are {', '.join(said.arms)}")
    chosen = set(arms or said.arms) | {said.control}
    return chosen.union(*(against[arm] for arm in arms))


def _flat(changes: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Fields by dotted name, whether the file groups them or not."""
    pairs: list[tuple[str, Any]] = []
    for name, value in changes.items():
        if isinstance(value, dict) and value:
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value))
    return pairs
