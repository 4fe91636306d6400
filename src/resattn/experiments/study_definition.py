"""What a study is of, written into it when it is begun and compared when it is gone on with."""

import optuna
import yaml

from resattn.data.durable import file_sha256
from resattn.data.labelled_folder import folder_of
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.experiments.plan import Plan
from resattn.experiments.search_space import Choices, SearchSpace, parse_search, replaced
from resattn.training.fine_tuning import starting_weights
from resattn.training.recipe import Recipe

# Fields that name what is to be read; what that is may change under its name.
INPUTS = ("data", "start_from", "model")


def require_as_begun(plan: Plan, study: optuna.Study) -> None:
    """Write recipe, search, images and starting weights into a new study.

    Raises ResattnError where it was begun with others, whose trials could not be compared with those of the plan.
    """
    _require_same_definition(plan, study)
    _require_same_inputs(plan, study)


def _require_same_definition(plan: Plan, study: optuna.Study) -> None:
    """Write what the study is into it, or compare with what stands there."""
    specs = dict(plan.space.specs)
    before = study.user_attrs.get("definition")
    if before is None:
        if any(plan.folder.glob("trial-*/recipe.yaml")):
            raise ResattnError(
                f"{plan.folder} holds trials of a study that is kept elsewhere",
                "give its --storage, or choose another name",
            )
        study.set_user_attr("definition", {"recipe": plan.space.base.to_yaml(), "search": specs})
        return
    source = f"the study {plan.study}"
    base = Recipe.from_mapping(yaml.safe_load(before["recipe"]), source=source)
    same_search = parse_search([f"{f}={s}" for f, s in before["search"].items()], base).domains
    if base != plan.space.base or same_search != plan.space.domains:
        raise ResattnError(
            f"{source} was begun otherwise: {_difference(before, plan.space)}",
            "give the command it was begun with, or choose another name",
        )


def _require_same_inputs(plan: Plan, study: optuna.Study) -> None:
    """Write which images and starting weights the study is of, or compare with what stands there: names do not tell."""
    example, domains = plan.space.example, plan.space.domains
    recipes = [example]
    for field in INPUTS:
        if isinstance(domain := domains.get(field), Choices):
            recipes += [
                replaced(example, {field: value}, f"the study {plan.study}") for value in domain.values
            ]
    splits = {recipe.data: open_split(recipe.data) for recipe in recipes if folder_of(recipe.data) is None}
    starts = {starting_weights(recipe) for recipe in recipes}
    now = {f"data {name}": [split.source_sha256, split.images.shape[1]] for name, split in splits.items()} | {
        f"weights {path}": [file_sha256(path)] for path in starts if path is not None
    }
    before = study.user_attrs.get("inputs", {})
    for name, its in now.items():
        if before.get(name, its) != its:
            raise ResattnError(
                f"the study {plan.study} was begun with other {name}: trials of both cannot be compared",
                "put back what it was begun with, or choose another name",
            )
    if now.keys() - before.keys():
        study.set_user_attr("inputs", {**before, **now})


def _difference(before: dict[str, object], space: SearchSpace) -> str:
    """The first line that differs between two definitions, in words."""
    after = {"recipe": space.base.to_yaml(), "search": dict(space.specs)}
    lines = {
        name: yaml.safe_dump(each["search"]).splitlines() + str(each["recipe"]).splitlines()
        for name, each in (("then", before), ("now", after))
    }
    then, now = (
        next((line.strip() for line in lines[one] if line not in lines[other]), "nothing")
        for one, other in (("then", "now"), ("now", "then"))
    )
    return f"with {then}, and not with {now}"
