"""The `resattn` command: names and help of the verbs, each imported only when it is used.

This file stands outside the package because importing `resattn` imports torch and timm, which takes seconds, and
`resattn --help` should not.
"""

import io
import os
import signal
import sys
import warnings
from importlib.metadata import version
from types import FrameType

from cyclopts import App, ArgumentCollection


def recipe_defaults(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Let `--recipe FILE` fill the options that were not given; cyclopts calls this before it binds them."""
    if commands in (("train",), ("tune",)):
        from resattn.recipe_options import fill_from_recipe

        fill_from_recipe(app, commands, arguments)


app = App(
    name="resattn",
    help="Residual attention networks for image classification: train, evaluate, look inside, predict.",
    version=lambda: version("resattn"),
    result_action="return_value",
    config=recipe_defaults,
)
prepare = App(name="prepare", help="Pack a data set for training: once, before the first run on it.")
prepare.command(
    "resattn.cli:prepare_tiny_imagenet", name="tiny-imagenet", help="Tiny ImageNet, from its archive."
)
prepare.command("resattn.cli:prepare_folder", name="folder", help="Your own images, in one folder a class.")
prepare.command("resattn.cli:prepare_cifar10", name="cifar10", help="CIFAR-10, from its archive.")
prepare.command("resattn.cli:prepare_cifar100", name="cifar100", help="CIFAR-100, from its archive.")
prepare.command(
    "resattn.cli:prepare_shapes", name="shapes", help="The embedded data set: shapes drawn on the spot."
)
app.command(prepare)
app.command("resattn.cli:train", name="train", help="Train a network, or go on with a run that was stopped.")
app.command(
    "resattn.cli_experiments:tune", name="tune", help="Search over any field of a recipe, trial by trial."
)
app.command(
    "resattn.cli_experiments:compare",
    name="compare",
    help="Train arms of a question with several seeds: table, figures, report.",
)
app.command(
    "resattn.cli_evaluation:evaluate",
    name="evaluate",
    help="Measure accuracy and calibration, table and figures.",
)
app.command("resattn.cli:predict", name="predict", help="Name what is in images.")
app.command("resattn.cli_explain:explain", name="explain", help="See where a network looks in images.")
app.command(
    "resattn.cli_release:release", name="release", help="Weights, figures and a model card to hand out."
)
app.command(
    "resattn.cli_export:export", name="export", help="Write a network to a file that runs without torch."
)
app.command("resattn.cli_serve:serve", name="serve", help="Serve a network over HTTP, with a page.")
app.command("resattn.cli:models", name="models", help="List the networks with their cost and weights.")


def _end(signum: int, _frame: FrameType | None) -> None:
    """Leave nothing half-written, and end by the signal.

    Not by an exception: it would come up wherever the program happens to be, and be swallowed or taken for something
    else in a callback or an import.
    """
    files = sys.modules.get("resattn.files")
    if files is not None:
        files.remove_unfinished()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def main() -> None:
    """Entry point of the `resattn` command; a failure the user can mend is printed, without a traceback."""
    # Threads wait for each other spinning, and what they spin away a busy neighbour's core cannot be given
    # (docs/experiment-log.md). GNU OpenMP reads this when torch is loaded, hence here.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    signal.signal(signal.SIGTERM, _end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names that the terminal's encoding has no letters for
    # Of the size of an image, before resattn says in its own words that it is too large.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    try:
        app()
        sys.stdout.flush()  # what cannot be written is told here, and not after the end
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads, such as `head`, has seen enough. What is still to be written goes nowhere, or Python would try
        # again at its end; the status is that of a program that SIGPIPE ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        what, mend = getattr(error, "what", None), getattr(error, "mend", None)
        if what is None:
            raise
        # Of torchrun's processes on this machine the first says it for all.
        if int(os.environ.get("LOCAL_RANK", "0")) > 0:
            sys.exit(1)
        print(f"error: {what}", file=sys.stderr)
        if mend:
            print(f"mend:  {mend}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
