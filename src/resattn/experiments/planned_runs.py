"""The runs a comparison consists of: each arm with each seed, its length settled, its folder named by its recipe."""

from dataclasses import dataclass
from pathlib import Path

from resattn.data.durable import file_sha256
from resattn.data.packed import open_split
from resattn.errors import ResattnError
from resattn.experiments.arms_check import require_arms_fit
from resattn.experiments.comparison import Comparison
from resattn.experiments.held_equal import settle
from resattn.experiments.recipe_key import recipe_key
from resattn.experiments.steps_in_time import in_format
from resattn.training.fine_tuning import starting_weights
from resattn.training.recipe import Recipe
from resattn.training.run_folder import RunFolder

COMPARISONS = Path("runs/compare")
POOL = "runs"
DIVERGED = "diverged.txt"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison, there or not: which arm with which seed, by which recipe, in which folder."""

    arm: str
    seed: int
    recipe: Recipe
    folder: RunFolder

    @property
    def diverged(self) -> bool:
        """Whether its loss or its output stopped being finite, which it would do again."""
        return (self.folder.path / DIVERGED).exists()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged or self.folder.results_file.exists()

    def require_own(self) -> None:
        """Raise ResattnError where the folder holds a run by another recipe, of other images or from other weights.

        So it does where a part of the run is gone.
        """
        if not (self.done or self.folder.recipe_file.exists()):
            return
        self._require_whole()
        data = open_split(self.recipe.data)
        self.folder.require_same_data(self.recipe.data, data.source_sha256, data.images.shape[1])
        start = starting_weights(self.recipe)
        if start and file_sha256(self.folder.start_file) != file_sha256(start):
            raise ResattnError(
                f"{self.recipe.start_from} has other weights than when the run in {self.folder.path} began",
                "move the run away, and give the command again",
            )
        there = self.folder.recipe()
        settled = there.replace(precision=self.recipe.precision)
        if settled != self.recipe:
            raise ResattnError(
                f"{self.folder.path} holds a run by another recipe, perhaps of another version of resattn",
                "move it away, and give the command again",
            )

    def _require_whole(self) -> None:
        """Raise ResattnError where a file is gone that a run like this has."""
        files = [self.folder.recipe_file, self.folder.environment_file]
        if self.folder.results_file.exists():
            files.append(self.folder.metrics_file)
        if self.recipe.start_from:
            files.append(self.folder.start_file)
        for path in files:
            if not path.exists():
                raise ResattnError(
                    f"a part of the run in {self.folder.path} is gone: its {path.name} is not there",
                    "put it back, or move the folder away and give the command again: the run is trained anew",
                )


def planned_runs(comparison: Comparison, *, parent: Path = COMPARISONS) -> list[PlannedRun]:
    """All runs of a comparison, all arms of one seed before the next seed.

    Runs lie under `parent`/runs, where comparisons that have a run in common share it. Where a time says how long they
    are, what fits into it is measured first. Raises ResattnError for data and models that are not there, and for arms
    that `require_arms_fit` refuses.
    """
    if comparison.name == POOL:
        raise ResattnError(f"a report called {POOL} would lie among all runs", "give the file another name")
    require_arms_fit(comparison.recipes)
    settled = settle(comparison, parent / POOL)
    runs = []
    for seed in range(comparison.seeds):
        for arm, recipe in comparison.recipes.items():
            whole = recipe.replace(seed=seed, steps=settled.steps[arm])
            folder = RunFolder(parent / POOL / f"{whole.model}-seed{seed}-{recipe_key(whole)}")
            runs.append(PlannedRun(arm, seed, in_format(whole, settled.precision), folder))
    return runs
