"""What the verbs of the command print for people: results in tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from resattn.experiments.search_space import short_names, shown
from resattn.experiments.wording import COLUMNS, arm_row, in_points

if TYPE_CHECKING:
    from resattn.data.packing import PreparedReport
    from resattn.evaluation.classification import ClassificationResult
    from resattn.evaluation.localization import LocalizationResult
    from resattn.evaluation.robustness_result import RobustnessResult
    from resattn.experiments.comparison_report import ComparisonReport
    from resattn.experiments.study_report import StudyReport
    from resattn.models.catalog import VariantDescription
    from resattn.serving.offline import OfflineReport
    from resattn.serving.prediction import Prediction

console = Console(highlight=False)
BEST_TRIALS = 5
# What a comparison's table has room for on a terminal narrower than all of its columns; the report has them all.
WIDE = 140
NARROW = ("arm", "runs", "steps", "minutes", "top-1 (%)", "loss")


def plain(text: str) -> str:
    """A name of the user's, to print: square brackets are no markup, and lone surrogates become question marks."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))


def print_line(text: str) -> None:
    """Print a line of markup whole, where it is piped too: a path that is cut at 80 columns cannot be copied."""
    console.print(text, soft_wrap=True)


def print_prediction(prediction: "Prediction") -> None:
    """Print an image's name and its likeliest classes."""
    print_line(f"[bold]{plain(prediction.source or 'image')}[/bold]")
    print_classes(prediction)


def print_classes(prediction: "Prediction") -> None:
    """Print classes, a line each."""
    for label, description, probability in prediction.rows():
        print_line(f"  {probability:6.1%}  {plain(description)}  [dim]{plain(label)}[/dim]")


def print_preparation(report: "PreparedReport") -> None:
    """Print what one `prepare` made: images of each split, notes, and what was skipped."""
    table = Table("split", "images", "with boxes", title=f"{report.name}: {report.classes} classes")
    for split, images in report.images.items():
        table.add_row(split, f"{images:,}", f"{report.boxes.get(split, 0):,}")
    console.print(table)
    for note in report.notes:
        console.print(f"note: {plain(note)}")
    if report.skipped:
        console.print(f"skipped {len(report.skipped)} bad images:")
        for line in report.skipped:
            console.print(f"  {plain(line)}")
    console.print(f"prepared in {report.seconds:.1f} s; train with: resattn train --data {report.name}")


def print_scores(result: "ClassificationResult") -> None:
    """Print the scores of an evaluation, the average over mirror images apart from the single view."""
    title = f"{result.model} on {result.data} {result.split}: {result.images:,} images"
    few = len(result.per_class) <= 5  # of which one is always the right one
    table = Table("view", "top-1", *([] if few else ["top-5"]), "loss", "calibration error", title=title)
    rows: list[tuple[str, Any]] = [("single", result)]
    if result.flip_average is not None:
        rows.append(("with mirror image", result.flip_average))
    for view, scores in rows:
        shares = [f"{scores.top1:.2%}", *([] if few else [f"{scores.top5:.2%}"])]
        table.add_row(view, *shares, f"{scores.loss:.4f}", f"{scores.ece:.2%}")
    console.print(table)
    counts = [row.images for row in result.per_class if row.images]
    if max(counts) >= 2 * min(counts):
        console.print(
            f"Classes with images have {min(counts):,} to {max(counts):,}; the mean of their top-1 is "
            f"[bold]{result.class_mean_top1:.2%}[/bold]."
        )


def print_offline(report: "OfflineReport", out: Path) -> None:
    """Print where predictions were written, and of how many images."""
    told = f"{report.images:,} predicted"
    if report.unreadable:
        told += f", {report.unreadable:,} unreadable"
    if report.before:
        told += f", {report.before:,} done before"
    console.print(f"{told}; they lie in [bold]{plain(str(out))}[/bold], one JSON object a line")


def print_localization(result: "LocalizationResult") -> None:
    """Print how well each reading of the masks finds the object, the baselines first."""
    title = f"{result.model} on {result.data} {result.split}: {result.images:,} images with boxes"
    numbers = [Column(name, justify="right") for name in ("pointing", "energy", "box accuracy", "threshold")]
    table = Table(Column("saliency", no_wrap=True), *numbers, title=title, box=SIMPLE)
    for number, score in enumerate(result.scores):
        shares = f"{score.pointing:.1%}", f"{score.energy:.3f}", f"{score.box_accuracy:.1%}"
        ends = score.kind != result.scores[min(number + 1, len(result.scores) - 1)].kind
        table.add_row(score.name, *shares, f"{score.threshold:.3f}", end_section=ends)
    console.print(table)
    console.print(
        "pointing: the maximum lies in the box. energy: how many times what a map that knows nothing has in the box. "
        "box accuracy: IoU of 0.5 or more. "
        f"Thresholds were tuned on {result.tuning_images:,} boxes of {result.tuning_split}."
    )


def print_robustness(result: "RobustnessResult") -> None:
    """Print top-1 of each family of corruptions at each severity, and what stays of the clean accuracy."""
    source = f"{result.data} {result.split}, corruptions {result.corruptions}"
    title = f"{result.model} on {source}: {result.images:,} images"
    heads = ("1", "2", "3", "4", "5", "mean")
    numbers = [Column(name, no_wrap=True, justify="right") for name in heads]
    table = Table("kind", Column("corruption", no_wrap=True), *numbers, title=title, box=SIMPLE)
    for number, family in enumerate(result.families):
        following = result.families[min(number + 1, len(result.families) - 1)]
        shares = [f"{share:.1%}" for share in (*family.top1, family.mean)]
        table.add_row(family.kind, family.name, *shares, end_section=family.kind != following.kind)
    console.print(table)
    mean, clean = result.mean_corruption_accuracy, result.clean_top1
    rest = f", {mean / clean:.0%} of the clean top-1, {clean:.2%}" if clean else ""
    console.print(f"Mean corruption accuracy [bold]{mean:.2%}[/bold]{rest}.")
    for note in result.notes:
        console.print(f"note: {note}", markup=False)


def print_variants(rows: "Sequence[VariantDescription]") -> None:
    """Print the networks with their cost and, where weights ship, those weights' accuracy."""
    fixed = [Column(name, no_wrap=True) for name in ("model", "input", "classes", "parameters", "MACs")]
    for column, width in zip(fixed[1:], (6, 7, 10, 8), strict=True):
        column.min_width = width
    table = Table(*fixed, Column("top-1", no_wrap=True, min_width=6), box=SIMPLE)
    for row in rows:
        side = f"{row['input_size']} px"
        cost = (f"{row['parameters']:,}", f"{row['macs'] / 1e9:.3f} G")
        reached = "-" if row["top1"] is None else f"{row['top1']:.2%}"
        table.add_row(row["model"], side, str(row["classes"]), *cost, reached)
    console.print(table)


def print_study(report: "StudyReport") -> None:
    """Print the best trials of a study, and where its files lie."""
    names = short_names(report.fields)
    table = Table(
        Column("run", no_wrap=True),
        Column("top-1", no_wrap=True),
        *(Column(name, overflow="fold") for name in names.values()),
        Column("steps", no_wrap=True),
        title=plain(f"{report.name}: {report.summary}; top-1 on held-out images"),
        box=SIMPLE,
    )
    for row in report.best[:BEST_TRIALS]:
        values = [plain(shown(row.values[field])) for field in report.fields]
        steps = "-" if row.steps is None else f"{row.steps:,}"
        table.add_row(row.run, f"{row.top1:.2%}", *values, steps)
    console.print(table)
    if report.own:
        console.print(f"The recipe's own values: {report.own.run}, held-out top-1 {report.own.top1:.2%}.")
    place = f"[bold]{plain(str(report.folder))}[/bold]"
    print_line(f"All trials, with their minutes, and a figure are in {place}: trials.csv, study.png.")
    if report.best_recipe:
        console.print(f"Train by the best of them: resattn train --recipe {report.best_recipe}")


def print_comparison(report: "ComparisonReport") -> None:
    """Print the arms of a comparison, the differences between them, and where its files lie."""
    figures = report.to_json()
    title = plain(f"{report.question}\n{report.data}; held equal: {report.held}; {report.summary}")
    shown_columns = COLUMNS if console.width >= WIDE else NARROW
    table = Table(
        *(
            Column(name, no_wrap=name != "arm", justify="left" if name in ("arm", "network") else "right")
            for name in shown_columns
        ),
        title=title,
        box=SIMPLE,
    )
    for row in figures["arms"]:
        cells = dict(zip(COLUMNS, arm_row(row), strict=True))
        table.add_row(*(plain(cells[name]) for name in shown_columns))
    console.print(table)
    for each in figures["differences"]:
        console.print(f"top-1 of {each['arm']}, in points: {in_points(each)}", markup=False)
    if any(len(each["seeds"]) > 1 for each in figures["differences"]):
        console.print("In brackets Student's 95 % intervals over seeds; the report also has the bootstrap's.")
    for remark in report.remarks:
        console.print(f"note: {remark}", markup=False)
    place = f"[bold]{plain(str(report.folder / 'report.html'))}[/bold]"
    print_line(f"The report is {place}, its figures lie beside it.")
