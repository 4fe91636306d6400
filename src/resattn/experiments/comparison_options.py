"""What a command asks of a comparison beside its file, and how the report is then called."""

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from resattn.experiments.comparison_file import SHIPPED, ComparisonFile

# Of a report's name, in bytes, beside the hash that tells it apart.
LONGEST_NAME = 80


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `resattn compare`; those of `read_comparison`."""

    recipe: str | None
    time: str | None
    seeds: int | None
    fields: tuple[str, ...]
    arms: tuple[str, ...]

    def name(self, path: Path, said: ComparisonFile) -> str:
        """A folder for the report: a trial with other options leaves that of the comparison itself alone.

        More seeds than the file's extend its report, which keeps them; fewer make another.
        """
        words = [*self._changing(), *sorted(self._arms())]
        if self.seeds is not None and self.seeds < said.seeds:
            words += self._seeds()
        if not words:
            return path.stem
        told = "-".join([path.stem, *(re.sub(r"[^\w.]+", "-", word).strip("-.") for word in words)])
        cut = told.encode()[:LONGEST_NAME].decode(errors="ignore")
        return f"{cut}-{hashlib.sha256(shlex.join(words).encode()).hexdigest()[:6]}"

    def command(self, path: Path) -> str:
        """What was asked for, as one would type it."""
        shipped = path.resolve().parent == SHIPPED.resolve()
        words = [*self._changing(), *self._arms(), *self._seeds()]
        return shlex.join(["resattn", "compare", path.stem if shipped else str(path), *words])

    def note(self, said: ComparisonFile) -> str:
        """The file's, without what it says of its budget where the command asks for another."""
        if not self._changing():
            return f"{said.note} {said.budget}".strip()
        return f"{said.note} Asked with {' '.join(self._changing())}.".strip()

    def _changing(self) -> list[str]:
        """Options that change how each run is trained."""
        recipe = [f"--recipe={self.recipe}"] if self.recipe is not None else []
        time = [f"--time-per-run={self.time}"] if self.time is not None else []
        return [*recipe, *time, *(f"--set={text}" for text in self.fields)]

    def _arms(self) -> list[str]:
        return [f"--arms={arm}" for arm in self.arms]

    def _seeds(self) -> list[str]:
        return [f"--seeds={self.seeds}"] if self.seeds is not None else []
