"""Fixtures every test may use: a home, the command, a trained network, the real archive if any, and fuzzing's count.

Few cases of fuzzing run in the suite; `make fuzz` gives each test thousands, and counts them at the end.
"""

import gc
import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

import resattn_launcher

# As the `resattn` command does, before torch is loaded: tests share the machine too.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@pytest.fixture
def resattn_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `$RESATTN_HOME` that ends with the test."""
    home = tmp_path / "home"
    monkeypatch.setenv("RESATTN_HOME", str(home))
    return home


@pytest.fixture
def tiny_imagenet_archive() -> Path:
    """The real archive beside the checkout; tests that need it skip where it is absent."""
    archive = Path(__file__).parents[2] / "shared" / "data" / "tiny-imagenet-200.zip"
    if not archive.is_file():
        pytest.skip(f"needs the real Tiny ImageNet archive at {archive}")
    return archive


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def resattn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the `resattn` command to its exit status, in this process: another would load torch first, for seconds."""

    def run(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        words, app = [*map(str, arguments)], resattn_launcher.app
        before, status = signal.getsignal(signal.SIGTERM), 0
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["resattn", *words])
            # Where nothing is handed over, cyclopts takes the words from there too, but warns under pytest.
            patch.setattr(resattn_launcher, "app", lambda: app(words))
            if cwd:
                patch.chdir(cwd)
            try:
                resattn_launcher.main()
            except SystemExit as ended:
                status = ended.code or 0
            finally:
                signal.signal(signal.SIGTERM, before)
        return subprocess.CompletedProcess(words, status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def modules_alone() -> str:
    """The beginning of a program that needs a module or two of the package: all of it would load torch, for seconds."""
    source = importlib.util.find_spec("resattn").submodule_search_locations
    return f"""
import sys, types
sys.modules["resattn"] = types.ModuleType("resattn")
sys.modules["resattn"].__path__ = {[*source]}
"""


DrawDots = Callable[..., Path]


def _draw_dots(folder: Path, colours: dict[str, tuple[int, int, int]], *, images: int, side: int) -> Path:
    """A folder of noisy PNG images for each colour: `colours` says how strong red, green and blue are, 0 to 1."""
    rng = np.random.default_rng(0)
    for name, weights in colours.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            pixels = rng.integers(0, 120, (side, side, 3), dtype=np.uint8)
            pixels += np.array(weights, dtype=np.uint8) * rng.integers(40, 130, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def draw_dots() -> DrawDots:
    """The function above."""
    return _draw_dots


@dataclass(frozen=True)
class TrainedDots:
    """A home with the data set "dots" (blue and red noise, 24 px, 24 images to validate on), a run that learnt it in
    a few steps, its release, and an image to predict."""

    home: Path
    run: Path
    release: Path
    photo: Path


@pytest.fixture(scope="session")
def trained_dots_once(tmp_path_factory: pytest.TempPathFactory) -> TrainedDots:
    """What `trained_dots` gives, made once."""
    from resattn.data.image_folder import prepare_image_folder
    from resattn.evaluation.release import release
    from resattn.training.recipe import Recipe
    from resattn.training.run import train
    from resattn.training.run_folder import RunFolder

    place = tmp_path_factory.mktemp("trained")
    images = _draw_dots(place / "dots", {"red": (1, 0, 0), "blue": (0, 0, 1)}, images=60, side=24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESATTN_HOME", str(place / "home"))
        prepare_image_folder(images, name="dots", size=24, val_share=0.2)
        folder = RunFolder(place / "run")
        options: dict[str, float | int | str | bool] = {"mask_width": 8, "drop_rate": 0.1}
        recipe = Recipe(data="dots", model_options=options, steps=16, batch_size=16, start_scale=1.0)
        train(recipe.replace(validations=1, precision="fp32"), folder)
        release(folder.weights_file, environment=folder.environment(), out=place / "release")
    return TrainedDots(place / "home", folder.path, place / "release", images / "red" / "0.png")


@pytest.fixture
def trained_dots(trained_dots_once: TrainedDots, monkeypatch: pytest.MonkeyPatch) -> TrainedDots:
    """A trained network whose home is `$RESATTN_HOME`, and whose release is what ships with the package."""
    from resattn.models import pretrained

    monkeypatch.setenv("RESATTN_HOME", str(trained_dots_once.home))
    monkeypatch.setattr(pretrained, "FOLDER", trained_dots_once.release)
    return trained_dots_once


@pytest.fixture(scope="session")
def dots_onnx(trained_dots_once: TrainedDots, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network of `trained_dots`, exported without masks."""
    from resattn.models.loading import load
    from resattn.serving.export import export

    path = tmp_path_factory.mktemp("exported") / "dots.onnx"
    export(load(trained_dots_once.run), path, progress=False)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave long tests to `make chaos`, so that the suite takes minutes."""
    if os.environ.get("RESATTN_CHAOS_MOMENTS"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="left to make chaos"))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end: torch, what it brings along, and the tests."""
    gc.collect()
    gc.freeze()


CASES: pytest.StashKey[Counter[str]] = pytest.StashKey()

settings.register_profile(
    "fuzzing",
    max_examples=int(os.environ.get("RESATTN_FUZZ_CASES", "100")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def ended(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with how a case ended, so that the summary can say it."""
    counts = request.config.stash.setdefault(CASES, Counter())
    name = request.node.originalname

    def note(how: str) -> None:
        counts[f"{name}: {how}"] += 1

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The number of cases by test and end."""
    counts = config.stash.get(CASES, Counter[str]())
    if counts:
        terminalreporter.section(f"fuzzing: {counts.total():,} cases")
        for name, count in sorted(counts.items()):
            terminalreporter.write_line(f"{count:>8,}  {name}")
