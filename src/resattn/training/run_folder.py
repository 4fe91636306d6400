"""The run folder: where each file of a run lies, and the run's own record of what made it."""

import functools
import itertools
import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resattn.data.locking import locked
from resattn.errors import ResattnError
from resattn.files import make_folder, whole_file, whole_text_file, writing
from resattn.hardware import Execution
from resattn.training.recipe import Recipe

# What a result depends on beside its recipe, of all that is recorded.
ORIGIN = ("commit", "cpu", "threads", "device", "precision", "versions", "platform")
RUNS = Path("runs")
RECORDED_PACKAGES = ("resattn", "torch", "torchvision", "timm", "pytorch-lightning", "numpy", "pillow")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Everything downstream takes it, or the `weights.safetensors` in it."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe: with the steps and the precision that were chosen."""
        return self.path / "recipe.yaml"

    @property
    def metrics_file(self) -> Path:
        """One row for every few steps and for every validation."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The last two checkpoints, for resuming."""
        return self.path / "checkpoints"

    @property
    def weights_file(self) -> Path:
        """The averaged weights that were evaluated."""
        return self.path / "weights.safetensors"

    @property
    def start_file(self) -> Path:
        """The weights the run started from, where it did from some: a copy, so that it can be resumed without them."""
        return self.path / "start.safetensors"

    @property
    def results_file(self) -> Path:
        """The final evaluation; its presence means the run is finished."""
        return self.path / "results.json"

    @property
    def environment_file(self) -> Path:
        """Versions, hardware and git commit when the run began, and under `sittings` those it went on with later."""
        return self.path / "environment.json"

    @property
    def resume_command(self) -> str:
        """What a user types to go on."""
        return f"resattn train --resume --run-dir {shlex.quote(str(self.path))}"

    def require_free(self) -> None:
        """Raise ResattnError where a run lies here already, or what a run would go on from."""
        if self.recipe_file.exists():
            raise ResattnError(
                f"{self.path} holds a run already",
                f"go on with `{self.resume_command}`, or choose another --run-dir",
            )
        others = (self.weights_file, self.results_file, *self.checkpoints.glob("step-*.ckpt"))
        for path in others:
            if path.exists():
                raise ResattnError(
                    f"{path} is of another run, whose {self.recipe_file.name} is gone",
                    f"move {self.path} away, or choose another --run-dir",
                )

    def remove_if_empty(self) -> None:
        """Remove a folder that `new_run_folder` made and in which no run was begun; and `runs/` where it is empty."""
        if self.path.parent == RUNS:
            with suppress(OSError):
                self.path.rmdir()
                RUNS.rmdir()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep other processes from training in this folder.

        Raises ResattnError where one does already, and where the folder cannot be written.
        """
        for folder in (self.path, self.checkpoints):
            make_folder(folder)
        with locked(self.checkpoints, when_busy="leave") as free:
            if not free:
                raise ResattnError(
                    f"another process is training in {self.path}",
                    "wait until it is done or stop it, or choose another --run-dir",
                )
            yield

    def start(
        self,
        recipe: Recipe,
        execution: Execution,
        *,
        data_sha256: str = "",
        data_size: int = 0,
        weights: Path | None = None,
        processes: int = 1,
    ) -> None:
        """Write the environment, a copy of the weights to start from, and last the resolved recipe.

        `data_sha256` identifies the data set, `data_size` is the side of its images in pixels, and `processes` is how
        many train together. Raises ResattnError where a run lies here already.
        """
        self.require_free()
        with whole_text_file(self.environment_file) as file:
            found = environment(execution) | {"data_sha256": data_sha256, "data_size": data_size}
            found["processes"] = processes
            file.write(json.dumps(found, indent=2) + "\n")
        if weights:
            with whole_file(self.start_file) as temporary:
                shutil.copyfile(weights, temporary)
        with whole_text_file(self.recipe_file) as file:
            file.write(recipe.to_yaml())

    def note_sitting(self, execution: Execution, *, processes: int = 1) -> None:
        """Write down where and by which code the run goes on, where that is not as it was before."""
        began = self.environment()
        sittings = began.get("sittings", [])
        here = {**environment(execution), "processes": processes}
        before = sittings[-1] if sittings else began
        if origin(here) == origin(before) and processes == before.get("processes", 1):
            return
        with whole_text_file(self.environment_file) as file:
            file.write(json.dumps({**began, "sittings": [*sittings, here]}, indent=2) + "\n")

    def environment(self) -> dict[str, Any]:
        """What `environment.json` holds; ResattnError where there is none."""
        try:
            return dict(json.loads(self.environment_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ResattnError(
                f"{self.environment_file} cannot be read: {error}", "name the folder of a run, whole"
            ) from error

    def require_same_data(self, name: str, data_sha256: str, data_size: int) -> None:
        """Raise ResattnError where the data set `name` is not what it was when the run began.

        `data_sha256` and `data_size` as for `start`; what a run of an earlier version did not write down is not asked.
        """
        began = self.environment()
        if (size := began.get("data_size", data_size)) != data_size:
            raise ResattnError(
                f"the images of {name} have {data_size} pixels a side, and had {size} when the run began",
                f"prepare it with --size {size} again, or start a new run",
            )
        if began.get("data_sha256", data_sha256) != data_sha256:
            raise ResattnError(
                f"{name} was prepared anew, from other files, since the run in {self.path} began",
                "prepare it from the same files again, or start a new run",
            )

    def recipe(self) -> Recipe:
        """The recipe of the run that lies here; ResattnError where there is none."""
        if not self.recipe_file.is_file():
            raise ResattnError(
                f"{self.path} holds no run (no recipe.yaml)", "start one with `resattn train --run-dir`"
            )
        return Recipe.from_yaml(self.recipe_file)


def new_run_folder(recipe: Recipe, *, parent: Path = RUNS) -> RunFolder:
    """The next free folder `runs/DATA-MODEL-N`, made here, so that of two runs begun at once each has its own.

    The caller removes it where nothing came of the run (`remove_if_empty`).
    """
    stem = re.sub(r"[^\w.-]+", "-", f"{recipe.data}-{recipe.model}")
    make_folder(parent)
    for number in itertools.count(1):
        folder = RunFolder(parent / f"{stem}-{number}")
        with writing(folder.path), suppress(FileExistsError):
            folder.path.mkdir()
            return folder
    raise AssertionError("numbers end")


def latest_unfinished(*, parent: Path = RUNS) -> RunFolder:
    """The run under `runs/` that was written to last and is not finished; ResattnError where there is none."""
    folders = [RunFolder(recipe.parent) for recipe in parent.glob("*/recipe.yaml")]
    open_runs = [run for run in folders if not run.results_file.exists()]
    if not open_runs:
        raise ResattnError(f"no unfinished run lies under {parent}/", "name one with --run-dir DIR")
    return max(open_runs, key=lambda run: max(path.stat().st_mtime for path in run.path.iterdir()))


def origin(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Of an environment, what makes runs unlike each other; why the number format was chosen is measured each time."""
    found = {name: recorded.get(name) for name in ORIGIN}
    return {**found, "precision": str(recorded.get("precision")).split(":")[0]}


def environment(execution: Execution) -> dict[str, object]:
    """What a result depends on beside its recipe."""
    import torch

    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in RECORDED_PACKAGES},
        },
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if execution.device.type == "cuda" else "cpu",
        "precision": f"{execution.precision}: {execution.reason}",
        "commit": _commit(),
        "command": sys.argv,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


@functools.cache
def _commit() -> str | None:
    """The git commit of the source this runs from, with a plus where files were changed; None when installed.

    Asked once: the code is loaded once, whatever is committed while it runs.
    """
    source = Path(__file__).parent
    try:
        # An environment may lie in a repository of its user's, which does not hold this code.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name],
            cwd=source,
            capture_output=True,
            check=True,
        )
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True, check=True
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", source.parent],
            cwd=source,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")
