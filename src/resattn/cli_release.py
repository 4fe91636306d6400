"""The verb of the `resattn` command that hands a network out: arguments in, one call, a printed answer."""

from pathlib import Path
from typing import Literal

from resattn.tables import console, plain, print_line, print_scores


def release(
    run: Path,
    /,
    *,
    out: Path | None = None,
    name: str | None = None,
    weights_as: Literal["auto", "float16", "float32"] = "auto",
) -> None:
    """Make a finished run ready to hand out: weights in half precision where that costs nothing, figures, model card.

    Parameters
    ----------
    run
        The folder of a finished run.
    out
        Where NAME.safetensors, NAME.json and NAME.md go; RUN/release where left out.
    name
        What the files are called; the network's name where left out.
    weights_as
        Number format of the weights; auto takes half precision where that changes how many answers
        are right by 2 in 10,000 at most.
    """
    from resattn.evaluation.release import release as write
    from resattn.models.loading import find_weights
    from resattn.training.run_folder import RunFolder

    folder = RunFolder(run)
    written = write(
        find_weights(run),
        environment=folder.environment(),
        out=out or run / "release",
        name=name,
        weights_as=weights_as,
    )
    print_scores(written.result)
    console.print(f"\nStored as {written.stored_as}: {written.reason}.")
    card = f"[bold]{plain(str(written.card))}[/bold]"
    print_line(f"The model card is {card}, the weights and exact figures are beside it.")
