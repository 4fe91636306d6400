"""How much better are few images of one's own learnt from trained weights than from scratch, in the same time?

Twenty of Tiny ImageNet's classes play somebody's own images: 50 training images of each (drawn by the seed), and the
official validation images of these classes to measure on. The weights come from a run on the other 180 classes, which
this script makes the data set for: call it without --from, train as it says, and call it again with that run:

    python benchmarks/fine_tuning.py
    resattn train --data tiny-imagenet-180 --recipe laptop-20m --run-dir runs/tiny-imagenet-180
    python benchmarks/fine_tuning.py --from runs/tiny-imagenet-180 --minutes 5 --repeats 3

Every contestant is the real command, in a process of its own, with the same training time: `--from` as it comes,
`--from` with the classifier alone, and scratch in several ways, of which the best is what counts. Which classes the
twenty are follows from the SHA-256 of their ids. Contestants take turns, seed 0, seed 1, ...; after seed 0 there are
only `--from` as it comes and the two best from scratch, on seed 0's validation images: a choice in scratch's favour.
"""

import measuring

measuring.like_the_command()

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resattn.data.packed import PackedSplit, PackedWriter, open_split, prepared_data_sets
from resattn.data.tiny_imagenet_layout import some_classes
from resattn.models.loading import find_weights
from resattn.models.weights import read_metadata
from resattn.training.history import read_history
from resattn.training.run_folder import RunFolder

SOURCE, OTHERS = "tiny-imagenet", "tiny-imagenet-180"
OWN_CLASSES, IMAGES_A_CLASS = 20, 50
FINE_TUNED = "from weights"
AUGMENTED = ("--augmentation.flip", "random", "--augmentation.crop", "0.5", "--augmentation.erase", "0.25")
SCRATCH: Mapping[str, Sequence[str]] = {
    "scratch, default": (),
    "scratch, batch 64": ("--batch-size", "64"),
    "scratch, batch 64, augmented": ("--batch-size", "64", *AUGMENTED),
    "scratch, batch 64, augmented, CutMix": ("--batch-size", "64", *AUGMENTED, "--augmentation.cutmix", "1"),
}


def own_data(seed: int) -> str:
    """The name of the twenty classes' data set with the training images of this seed; prepared where it is not yet."""
    name = f"{SOURCE}-{OWN_CLASSES}x{IMAGES_A_CLASS}-{seed}"
    train = open_split(SOURCE, "train")
    classes = some_classes(train.class_ids, OWN_CLASSES)
    if name not in prepared_data_sets():
        rng = np.random.default_rng(seed)
        drawn = [
            rng.choice(np.flatnonzero(train.labels == label), IMAGES_A_CLASS, replace=False)
            for label in classes
        ]
        write_part(name, classes, train, np.sort(np.concatenate(drawn)))
    return name


def other_data() -> str:
    """The name of the data set of the other 180 classes; prepared where it is not yet."""
    if OTHERS not in prepared_data_sets():
        train = open_split(SOURCE, "train")
        own = some_classes(train.class_ids, OWN_CLASSES)
        classes = [label for label in range(len(train.class_ids)) if label not in own]
        write_part(OTHERS, classes, train, np.flatnonzero(~np.isin(train.labels, own)))
    return OTHERS


def write_part(name: str, classes: list[int], train: PackedSplit, rows: NDArray[np.int64]) -> None:
    """Prepare some classes as a data set of their own: `rows` of train, and all of val."""
    measuring.say(f"preparing {name}")
    val = open_split(SOURCE, "val")
    parts = {
        "train": train.select(rows, name="train"),
        "val": val.select(np.flatnonzero(np.isin(val.labels, classes)), name="val"),
    }
    ids, names = ([one[label] for label in classes] for one in (train.class_ids, train.class_names))
    command = "python benchmarks/fine_tuning.py"
    with PackedWriter(name, class_ids=ids, class_names=names, command=command) as writer:
        for split, part in parts.items():
            height, width = part.images.shape[1:3]
            with writer.split(split, size=(height, width), expected_images=len(part.labels)) as packed:
                for row, (label, file_name) in enumerate(zip(part.labels, part.file_names, strict=True)):
                    packed.add(part.images[row], label=classes.index(int(label)), file_name=file_name)
        digest = hashlib.sha256(f"{train.source_sha256} {name}".encode()).hexdigest()
        writer.finish(source=SOURCE, source_sha256=digest)


def contestants(weights: str, also: Sequence[str]) -> dict[str, Sequence[str]]:
    """The options of each, beside data, time and seed; `also` are more options to start from the weights with."""
    start = ("--from", weights)
    more = {f"{FINE_TUNED}, {options}": (*start, *shlex.split(options)) for options in also}
    return {FINE_TUNED: start, "classifier alone": (*start, "--head-first", "1"), **more, **SCRATCH}


def for_seed(
    seed: int, everyone: Mapping[str, Sequence[str]], done: list[dict[str, Any]]
) -> dict[str, Sequence[str]]:
    """Who takes part: everyone with seed 0, later what starts from the weights and the two best from scratch."""
    if seed == 0:
        return dict(everyone)
    first = {entry["name"]: entry["top1"] for entry in done if entry["seed"] == 0}
    best = sorted(SCRATCH, key=lambda name: first[name], reverse=True)[:2]
    return {name: how for name, how in everyone.items() if name.startswith(FINE_TUNED) or name in best}


def run_command(
    name: str, options: argparse.Namespace, arguments: Sequence[str], seed: int
) -> dict[str, Any]:
    """Train one contestant; what its run folder says."""
    folder = RunFolder(options.runs / f"{re.sub('[^a-zA-Z0-9.]+', '-', name)}-seed{seed}")
    command = [
        sys.executable,
        "-m",
        "resattn",
        "train",
        "--run-dir",
        str(folder.path),
        "--data",
        own_data(seed),
    ]
    command += ["--time", f"{60 * options.minutes:g}s", "--seed", str(seed), "--validations", "1", *arguments]
    if "--from" not in arguments:
        command += ["--model", options.model]
    subprocess.run(command, check=True)
    results = json.loads(folder.results_file.read_text())
    history = read_history(folder.metrics_file)
    return {
        "name": name,
        "seed": seed,
        **{key: results[key] for key in ("top1", "top5", "loss", "ece")},
        "train_seconds": history["seconds"][-1],
        "steps": int(history["step"][-1]),
        "options": list(arguments),
    }


def shown(done: list[dict[str, Any]]) -> str:
    """One line a contestant, the best from scratch named."""
    names = list(dict.fromkeys(entry["name"] for entry in done))
    top1 = {name: measuring.Spread.of([e["top1"] for e in done if e["name"] == name]) for name in names}
    rows = []
    for name in names:
        entries = [entry for entry in done if entry["name"] == name]
        middle = {
            key: measuring.Spread.of([entry[key] for entry in entries]).median
            for key in ("top5", "loss", "train_seconds", "steps")
        }
        spread = f"{top1[name].low:.1%}..{top1[name].high:.1%}"
        figures = [f"{top1[name].median:.1%}", spread, f"{middle['top5']:.1%}", f"{middle['loss']:.3f}"]
        rows.append(
            [name, len(entries), *figures, f"{middle['train_seconds']:.0f} s", f"{middle['steps']:,.0f}"]
        )
    lines = [
        measuring.table(
            ["contestant", "seeds", "top-1", "spread", "top-5", "loss", "training", "steps"], rows
        )
    ]
    counts = {name: sum(entry["name"] == name for entry in done) for name in names}
    finalists = [name for name in names if name in SCRATCH and counts[name] == counts[FINE_TUNED]]
    if finalists:
        best = max(finalists, key=lambda name: top1[name].median)
        gain = top1[FINE_TUNED].median - top1[best].median
        lines.append(
            f"\nfrom weights against the best from scratch ({best}): {100 * gain:+.1f} points of top-1"
        )
    return "\n".join(lines)


def require_unseen(weights: str, *, short: bool) -> None:
    """End the benchmark where the weights come from images of the twenty classes; a short look only says so."""
    names = set(read_metadata(find_weights(weights))["label_names"])
    classes = open_split(SOURCE, "train").class_ids
    seen = names & {classes[label] for label in some_classes(classes, OWN_CLASSES)}
    if seen and not short:
        raise SystemExit(
            f"{weights} was trained on {len(seen)} of the twenty classes: take a run on {OTHERS}"
        )
    if seen:
        measuring.say(
            f"{weights} was trained on {len(seen)} of the twenty classes: these figures mean nothing"
        )


def options_of(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = measuring.arguments(__doc__)
    parser.add_argument(
        "--from", dest="weights", help=f"a run on {OTHERS}; without it, what to train is said"
    )
    parser.add_argument("--model", default="resattn_mini", help="the network that is trained from scratch")
    parser.add_argument("--minutes", type=float, help="training time of each (5; short: 0.1)")
    parser.add_argument("--repeats", type=int, help="seeds, of the training images too (3; short: 1)")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="OPTIONS",
        help='one more, such as "--optimization.lr 0.002"',
    )
    options = measuring.parse(parser, argv, "fine_tuning")
    options.minutes = options.minutes or (0.1 if options.short else 5.0)
    options.repeats = options.repeats or (1 if options.short else 3)
    options.runs = options.json.with_suffix("") / time.strftime("%Y%m%d-%H%M%S")
    return options


def main(argv: list[str] | None = None) -> None:
    """Print a line for each contestant, or how to make the weights."""
    options = options_of(argv)
    if options.weights is None:
        folder = Path("runs") / other_data()
        print(
            f"train the weights first:\n  resattn train --data {OTHERS} --recipe laptop-20m --run-dir {folder}\n"
            f"then:\n  python benchmarks/fine_tuning.py --from {folder}"
        )
        return
    require_unseen(options.weights, short=options.short)
    found = measuring.machine()
    done: list[dict[str, Any]] = []
    everyone = contestants(options.weights, options.also)
    for seed in range(options.repeats):
        for name, arguments in for_seed(seed, everyone, done).items():
            measuring.say(f"{name}, seed {seed}: {options.minutes:g} minutes")
            done.append(run_command(name, options, arguments, seed))
            measuring.write_json(options.json, measuring.record(options, __doc__, found, done))
    measuring.finish(options, __doc__, found, done, shown(done))


if __name__ == "__main__":
    main()
