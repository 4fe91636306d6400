"""Predictions for more images than one would wait for: into one file, line by line, going on where it was stopped."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from resattn import progress
from resattn.data.durable import file_sha256
from resattn.data.image_streams import EncodedImage, iter_images
from resattn.data.locking import locked
from resattn.errors import ResattnError
from resattn.files import unfinished, whole_text_file
from resattn.models.loading import find_weights
from resattn.serving.prediction import Unreadable
from resattn.serving.predictor import Predictor

LINES_AT_ONCE = 64
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet")


@dataclass(frozen=True)
class OfflineReport:
    """What `predict_to_file` did: images predicted, those that could not be read, and those done before."""

    images: int
    unreadable: int
    before: int


def predict_to_file(source: str, paths: Sequence[str], out: Path, *, top: int = 5) -> OfflineReport:
    """Predict all images in `paths` (see `iter_images`) into `out`, one JSON object a line, in their order.

    `source` is the network, as in `Predictor.open`. A line is a `Prediction`, or
    `source` and `error` for an image that cannot be read. Until all are done the lines lie in OUT.partial, and the same
    call goes on behind the last whole one; OUT.job says what the call was.

    Raises ResattnError where `out` is called a table or is there already, another process writes it, another call or
    other images began it, for a path that is not there, and where the disk refuses.
    """
    if out.suffix.lower() in _TABLES:
        raise ResattnError(
            f"{out} is called a table, and what is written is one JSON object a line",
            f"--out {out.with_suffix('.jsonl')}, which pandas.read_json(..., lines=True) makes a table of",
        )
    _require_absent(out)
    partial, job = out.with_name(out.name + ".partial"), out.with_name(out.name + ".job")
    sha256 = file_sha256(find_weights(source))
    predictor = Predictor.open(source)
    try:
        with _alone(out):
            before, last = _whole_lines(partial)
            asked = {"network": source, "weights": sha256, "paths": list(paths), "top": top}
            _require_same_job(job, asked, begun=before > 0)
            images = _after(last, iter_images(paths, skip=max(0, before - 1)), out)
            with partial.open("a", encoding="utf-8", errors="surrogateescape") as file:
                done, unreadable = _write(predictor, images, file, top)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(out)
            job.unlink(missing_ok=True)
    except OSError as error:
        raise ResattnError(
            f"cannot write {partial}: {error.strerror or error}",
            "make room there, and give the same command again",
        ) from error
    return OfflineReport(done, unreadable, before)


def _require_absent(out: Path) -> None:
    if out.exists():
        raise ResattnError(f"{out} is there already", "move it away, or choose another --out")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold `out` against other processes: the same command given twice agrees with its job, and would write twice."""
    lock = out.with_name(out.name + ".lock")
    with locked(lock, when_busy="leave") as free:
        if not free:
            raise ResattnError(f"another process is writing {out}", "wait for it, or choose another --out")
        with unfinished(lock):
            _require_absent(out)  # it may have been finished meanwhile
            yield


def _write(
    predictor: Predictor, images: Iterable[Path | EncodedImage], file: TextIO, top: int
) -> tuple[int, int]:
    done = unreadable = 0
    with progress.bar(total=None, description="predicting") as advance:
        for outcome in predictor.outcomes(images, top=top):
            file.write(json.dumps(outcome.to_json()) + "\n")
            unreadable += isinstance(outcome, Unreadable)
            done += 1
            advance(1)
            if done % LINES_AT_ONCE == 0:
                file.flush()
    return done - unreadable, unreadable


def _require_same_job(file: Path, job: dict[str, Any], *, begun: bool) -> None:
    """Write down what is to be done; where that is `begun`, it has to be what is written already."""
    if not begun or not file.exists():
        with whole_text_file(file) as text:
            text.write(json.dumps(job) + "\n")
        return
    try:
        began = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResattnError(f"{file} cannot be read: {error}", f"remove it and {file.stem}.partial") from error
    for name, value in job.items():
        if began.get(name) != value:
            raise ResattnError(
                f"{file.with_suffix('')} was begun with {name} {began.get(name)!r}, and now it is {value!r}",
                f"give the same again, or remove {file.name} and {file.stem}.partial to begin anew",
            )


def _whole_lines(file: Path) -> tuple[int, str | None]:
    """How many lines are written, and the source the last one names; what a kill left of another is cut off."""
    if not file.exists():
        return 0, None
    count, end, last = 0, 0, b""
    with file.open("rb+") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            count, end, last = count + 1, end + len(line), line
        lines.truncate(end)
    return count, str(json.loads(last)["source"]) if last else None


def _after(
    last: str | None, images: Iterator[Path | EncodedImage], out: Path
) -> Iterator[Path | EncodedImage]:
    """`images` without the first, which has to be the one that was predicted last."""
    if last is None:
        return images
    first = next(images, None)
    if first is None:
        raise ResattnError(
            f"there are fewer images than when {out} was begun: none is left where {last} stood",
            f"put them back, or remove {out.name}.partial and {out.name}.job to begin anew",
        )
    name = first.name if isinstance(first, EncodedImage) else str(first)
    if name != last:
        raise ResattnError(
            f"the images are others than when {out} was begun: {name} stands where {last} stood",
            f"put them back, or remove {out.name}.partial and {out.name}.job to begin anew",
        )
    return images
