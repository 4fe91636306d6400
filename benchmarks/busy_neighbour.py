"""What does one busy neighbour cost a training step, and does it help if waiting threads sleep sooner?

Runs `training_step.py` alone and beside one process that keeps a core busy, for several limits on how long GNU OpenMP's
threads spin before they sleep ("default" leaves the library's own). Run it on idle cores:

    python benchmarks/busy_neighbour.py --data shapes
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

SETTINGS = ("default", "10000", "0")
STEP = Path(__file__).with_name("training_step.py")


def step_seconds(setting: str, arguments: list[str]) -> float:
    """Median seconds of a step at the first image size, in a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment["GOMP_SPINCOUNT"] = setting
    if setting == "default":
        # training_step.py sets what is not set; OpenMP ignores a value that is no number.
        environment["GOMP_SPINCOUNT"] = "unset"
    command = [sys.executable, str(STEP), "--sizes", "first", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return sum(json.loads(done.stdout.splitlines()[-1])["seconds"]["first"].values())


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    arguments = ["--data", options.data, "--steps", str(options.steps)]
    results: dict[str, dict[str, float]] = {}
    print(f"{'spin count':<12}{'alone':>10}{'beside a busy neighbour':>26}")
    for setting in SETTINGS:
        alone = step_seconds(setting, arguments)
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside = step_seconds(setting, arguments)
        finally:
            neighbour.kill()
            neighbour.wait()
        results[setting] = {"alone": alone, "beside": beside}
        print(f"{setting:<12}{1000 * alone:>7.0f} ms{1000 * beside:>23.0f} ms", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
