"""Which Pythons, and which releases of what resattn rests on, it works with: each installed from nothing, and tried.

    pip install uv && python tests/matrix.py python3.11 python3.12 python3.13

The first Python with the oldest direct dependencies that pyproject.toml allows, and all of them with the newest that
requirements.lock may hold. Tried is what `SMOKE` lists, with this checkout's tests. Prints a table in Markdown; with
--write README.md it goes between the marks there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = (
    "tests/models/test_registry.py",
    "tests/models/test_network.py",
    "tests/models/test_pretrained.py",
    "tests/data/test_batches.py",
    "tests/training/test_run.py",
    "tests/serving/test_export.py",
    "tests/serving/test_export_int8.py",
    "tests/serving/test_server.py",
    "tests/serving/test_server_pages.py",
)
# Old releases are told by newer ones beneath them what they should no longer do; that is nothing of ours.
QUIET = "ignore::DeprecationWarning"
EDGES = {"oldest": "lowest-direct", "newest": "highest"}
SHOWN = ("torch", "torchvision", "timm", "pytorch-lightning", "numpy", "pillow")
BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"


@dataclass(frozen=True)
class Row:
    """One environment: its Python, its edge, the versions in it, and how the tests ended."""

    python: str
    edge: str
    versions: dict[str, str]
    outcome: str
    seconds: float


def tried(python: str, edge: str, folder: Path) -> Row:
    """Install into a new environment in `folder`, and run the smoke tests."""
    began = time.monotonic()
    binaries = folder / "bin"
    run("uv", "venv", "--quiet", "--python", python, str(folder))
    run(
        "uv", "pip", "install", "--quiet", "--python", str(binaries / "python"), "--resolution", EDGES[edge],
        "--constraints", str(constraints(folder)), f"{ROOT}[dev]",
    )  # fmt: skip
    listed = run("uv", "pip", "list", "--quiet", "--python", str(binaries / "python"), "--format", "json")
    versions = {one["name"]: one["version"] for one in json.loads(listed)}
    running = run(str(binaries / "python"), "--version").split()[1]
    done = subprocess.run(
        [str(binaries / "python"), "-m", "pytest", "-q", "-n", "auto", "-W", QUIET, *SMOKE],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = done.stdout.splitlines() or ["no tests ran"]
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    outcome = lines[-1].strip("= ").split(" in ")[0]
    return Row(running, edge, {name: versions[name] for name in SHOWN}, outcome, time.monotonic() - began)


def constraints(folder: Path) -> Path:
    """The newest releases the lock may hold, as a file."""
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    path = folder / "constraints.txt"
    path.write_text("\n".join(settings["tool"]["uv"]["constraint-dependencies"]) + "\n")
    return path


def run(*command: str) -> str:
    """What a command prints; it has to succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [["Python", "dependencies", *SHOWN, "tests"], ["---"] * (3 + len(SHOWN))]
    lines += [[row.python, row.edge, *(row.versions[name] for name in SHOWN), row.outcome] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Try them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pythons", nargs="+", help="interpreters, by name or path")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    for python, edge in [(options.pythons[0], "oldest"), *((python, "newest") for python in options.pythons)]:
        with tempfile.TemporaryDirectory(prefix="resattn-matrix-") as folder:
            rows.append(tried(python, edge, Path(folder)))
        print(
            f"Python {rows[-1].python}, {edge}: {rows[-1].outcome}, {rows[-1].seconds:.0f} s",
            file=sys.stderr,
        )
    table = markdown(rows)
    print(table)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        options.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    sys.exit(any("failed" in row.outcome or "error" in row.outcome for row in rows))


if __name__ == "__main__":
    main()
