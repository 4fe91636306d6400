"""The runs a comparison consists of: each arm with each seed, its length settled, its folder named by its recipe."""

from dataclasses import dataclass
from pathlib import Path

from resattn.errors import ResattnError
from resattn.experiments.comparison import Comparison
from resattn.experiments.held_equal import arm_steps
from resattn.experiments.recipe_key import recipe_key
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
        """Whether its loss stopped being finite, which it would do again."""
        return (self.folder.path / DIVERGED).exists()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged or self.folder.results_file.exists()

    def require_own(self) -> None:
        """Raise ResattnError where the folder holds a run by another recipe."""
        if not self.folder.recipe_file.exists():
            return
        there = self.folder.recipe()
        settled = there.replace(precision=self.recipe.precision)
        if settled != self.recipe:
            raise ResattnError(
                f"{self.folder.path} holds a run by another recipe, perhaps of another version of resattn",
                "move it away, and give the command again",
            )


def planned_runs(comparison: Comparison, *, parent: Path = COMPARISONS) -> list[PlannedRun]:
    """All runs of a comparison, all arms of one seed before the next seed.

    Runs lie under `parent`/runs, where comparisons that have a run in common share it. Where a time says how long they
    are, what fits into it is measured first. Raises ResattnError for data and models that are not there.
    """
    steps = arm_steps(comparison, parent / POOL)
    runs = []
    for seed in range(comparison.seeds):
        for arm, recipe in comparison.recipes.items():
            whole = recipe.replace(seed=seed, steps=steps[arm])
            folder = RunFolder(parent / POOL / f"{whole.model}-seed{seed}-{recipe_key(whole)}")
            runs.append(PlannedRun(arm, seed, whole, folder))
    return runs
