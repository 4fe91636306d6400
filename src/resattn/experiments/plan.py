"""What a study is asked to do, checked before anything is written."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from resattn.data.held_out import HELD_OUT
from resattn.errors import ResattnError
from resattn.experiments.search_space import SearchSpace, parse_search
from resattn.training.own_images import with_packed_folder
from resattn.training.recipe import Recipe, parse_duration

STUDIES = Path("runs/tune")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study: its name, what it searches, how many trials it has in total, and where they are kept."""

    study: str
    space: SearchSpace
    trials: int
    time_limit: float | None = None
    """Seconds after which no further trial is begun."""
    storage: str | None = None
    """Address of a database that machines share; None keeps a journal in the study's folder."""
    pruner: Literal["none", "median", "hyperband"] = "median"
    parent: Path = STUDIES

    @property
    def folder(self) -> Path:
        """Where the study's files and the run folders of its trials lie."""
        return self.parent / self.study


def make_plan(
    study: str,
    recipe: Recipe,
    search: list[str],
    *,
    trials: int,
    time_limit: str | None = None,
    storage: str | None = None,
    pruner: Literal["none", "median", "hyperband"] = "median",
) -> Plan:
    """Read what a user typed; every trial validates on the held-out images, whatever the recipe says.

    A folder of one's own images is packed. Raises ResattnError for a name that is no folder's, fewer than one trial, a
    time limit that is no duration, and what `parse_search` does not take.
    """
    if not re.fullmatch(r"\w[\w.-]*", study):
        raise ResattnError(
            f"a study cannot be called {study!r}", "use letters, digits, dots, dashes and underscores"
        )
    if trials < 1:
        raise ResattnError(f"--trials is {trials}", "a study has at least one trial")
    seconds = None if time_limit is None else parse_duration(time_limit)
    space = parse_search(search, recipe.replace(validate_on=HELD_OUT))
    return Plan(
        study=study,
        space=replace(space, base=with_packed_folder(space.base)),
        trials=trials,
        time_limit=seconds,
        storage=storage,
        pruner=pruner,
    )
