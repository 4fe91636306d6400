"""The verb of the `resattn` command that takes networks out of torch: arguments in, one call, a printed answer."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from resattn.errors import ResattnError
from resattn.serving.export import ExportReport, Format
from resattn.tables import console, plain, print_line

if TYPE_CHECKING:
    from resattn.data.packed import PackedSplit

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "onnx-int8": "-int8.onnx"}


def export(
    source: Annotated[
        str, Parameter(help="A run folder, a .safetensors file, or the name of a model with weights.")
    ],
    /,
    *,
    format: Format = "onnx",
    masks: Annotated[bool, Parameter(negative="")] = False,
    out: Path | None = None,
    data: str | None = None,
    allow_loss: float = 1.0,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Write a network to one file that runs without torch, and compare the file with the network on real images.

    Parameters
    ----------
    format
        onnx is float32; onnx-int8 computes in 8-bit integers, several times as fast on most CPUs. ONNX Runtime,
        OpenVINO and others run both.
    masks
        Also give every attention mask, as outputs named stage1.0 and so on.
    out
        The file; MODEL.onnx or MODEL-int8.onnx in the run folder where left out, or here where SOURCE is no run.
    data
        Prepared data set to compare on (its val split) and to measure int8's ranges on (its train split); the one the
        network was trained on where left out.
    allow_loss
        Points of top-1 that int8 may lose on the whole val split.
    json_output
        Print one JSON object.
    """
    from resattn.models.loading import load
    from resattn.serving.export import export as write

    network = load(source)
    folder = Path(source) if Path(source).is_dir() else Path()
    quantized = format == "onnx-int8"
    report = write(
        network,
        out or folder / f"{network.variant}{SUFFIXES[format]}",
        format=format,
        masks=masks,
        check=_split(network.pretrained_cfg.get("data"), data, "val", needed=quantized),
        calibration=_split(network.pretrained_cfg.get("data"), data, "train", needed=True)
        if quantized
        else None,
        allowed_loss=allow_loss,
    )
    if json_output:
        print(json.dumps(report.to_json()))
        return
    print_export(report)


def print_export(report: ExportReport) -> None:
    """Print what was written and how it compares with the network."""
    found = report.comparison
    table = Table(
        "", "network", "file", title=f"{report.format}, {found.images:,} images of {found.compared_on}"
    )
    if found.top1_network is not None and found.top1_file is not None:
        table.add_row("top-1", f"{found.top1_network:.2%}", f"{found.top1_file:.2%}")
    table.add_row("same class likeliest", "", f"{found.agreement:.2%}")
    table.add_row("largest difference", "", f"{found.largest_difference:.2g}")
    console.print(table)
    masks = f", masks {', '.join(report.masks)}" if report.masks else ""
    print_line(f"[bold]{plain(str(report.path))}[/bold]: {report.bytes / 1e6:.1f} MB{masks}")


def _split(trained_on: object, asked: str | None, split: str, *, needed: bool) -> "PackedSplit | None":
    """A split of the data set asked for, or else of the one trained on; None where that is not there and not needed."""
    from resattn.data.packed import open_split

    try:
        return open_split(asked or str(trained_on), split)
    except ResattnError as error:
        if asked or needed:
            raise
        print(f"compared on noise only: {error.what}; mend: {error.mend}", file=sys.stderr)
        return None
