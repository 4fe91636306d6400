"""What a weights file says about its network: one JSON object, checked alike when written and when read."""

import inspect
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm

from resattn.errors import ResattnError
from resattn.models.network import ResidualAttentionNetwork

REQUIRED_FIELDS = (
    "model",
    "options",
    "num_classes",
    "input_size",
    "label_names",
    "label_descriptions",
    "data",
)
# Before a network is built to compare with: a file must not make that take forever.
LARGEST_OPTION = 4096
# What a file may not hand to timm.create_model: some of these read other files, pickles among them.
RESERVED_OPTIONS = inspect.signature(timm.create_model).parameters.keys() | {
    "name",
    "num_classes",
    "pretrained_strict",
    "pretrained_model_args",
}


def complete_metadata(
    path: Path, network: ResidualAttentionNetwork, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of a network's weights file, from what the caller gives and what the network knows itself.

    JSON values as they will be read again; see `save_weights` for what is taken from where. Raises
    ResattnError, naming the file, for what `metadata_from_json` would refuse.
    """
    known = network.pretrained_cfg
    optional = ("label_names", "label_descriptions", "input_size")
    document = {
        **{name: known[name] for name in optional if known.get(name) is not None},
        **metadata,
        "num_classes": network.num_classes,
    }
    document.pop("sha256", None)  # of another file; `save_weights` gives this one its own
    if network.variant:
        document |= {"model": network.variant, "options": dict(network.options)}
    if isinstance(document.get("input_size"), int):
        document["input_size"] = (network.mean.numel(), document["input_size"], document["input_size"])
    names = document.get("label_names")
    # The network's own descriptions are of other classes where the caller gives new names without any.
    if "label_names" in metadata and "label_descriptions" not in metadata and isinstance(names, list | tuple):
        document["label_descriptions"] = {name: name for name in names}
    return metadata_from_json(path, metadata_to_json(path, document))


def metadata_to_json(path: Path, document: Mapping[str, Any]) -> str:
    """One text for equal metadata; raises ResattnError, naming the file, for other than JSON values."""
    try:
        return json.dumps(document, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ResattnError(
            f"{path}: the metadata or the model's options are not JSON values: {error}",
            "use strings, finite numbers, booleans, None, lists and dicts only",
        ) from error


def metadata_from_json(path: Path, text: str) -> dict[str, Any]:
    """The metadata read from `path`; raises ResattnError where it is no JSON object or unsound."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResattnError(
            f"{path} is damaged: its metadata is not JSON: {error}", "copy or download the file again"
        ) from error
    if not isinstance(document, dict):
        raise ResattnError(f"{path}: the metadata is no JSON object", "write the file with `save_weights`")
    _check(path, document)
    return document


def with_tuples(value: object) -> object:
    """A JSON value with tuples for lists, which JSON has alone: the options of variants are tuples."""
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def _check(path: Path, document: Mapping[str, Any]) -> None:
    if reason := _missing(document) or _wrong_type(document) or _wrong_labels(document):
        raise ResattnError(f"{path}: {reason}", "give `save_weights` the metadata that it documents")


def _missing(document: Mapping[str, Any]) -> str:
    absent = [name for name in REQUIRED_FIELDS if name not in document]
    return f"the metadata lacks {', '.join(absent)}" if absent else ""


def _wrong_type(document: Mapping[str, Any]) -> str:
    for name, kind in (("model", str), ("data", str), ("options", dict), ("label_descriptions", dict)):
        if not isinstance(document[name], kind):
            return (
                f"{name} should be a {'string' if kind is str else 'JSON object'}, not {document[name]!r:.60}"
            )
    size = document["input_size"]
    if not _all_are(int, size) or len(size) != 3 or min(size) < 1:
        return f"input_size should be three positive numbers (channels, height, width), not {size!r:.60}"
    if not _all_are(str, document["label_names"]):
        return f"label_names should be a list of strings, not {document['label_names']!r:.60}"
    if beyond_largest(document["options"]):
        return f"the model's options hold a number beyond {LARGEST_OPTION}, which no network is built with"
    if forbidden := sorted(document["options"].keys() & RESERVED_OPTIONS):
        return f"the model's options may not contain {', '.join(forbidden)}"
    return ""


def beyond_largest(options: Mapping[str, Any]) -> bool:
    """Whether options hold a number beyond `LARGEST_OPTION`: a file that says such a width could fill the memory."""
    return any(abs(number) > LARGEST_OPTION for number in _numbers(options))


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, Mapping):
        yield from _numbers(list(value.values()))


def _wrong_labels(document: Mapping[str, Any]) -> str:
    names, classes = document["label_names"], document["num_classes"]
    descriptions = document["label_descriptions"]
    if type(classes) is not int or classes != len(names):
        return f"num_classes is {classes!r:.60} but there are {len(names)} label_names"
    for before, after in pairwise(names):
        if before >= after:
            return f"label_names are not sorted, or not unique: {before!r} stands before {after!r}"
    if descriptions.keys() != set(names) or not _all_are(str, list(descriptions.values())):
        return "label_descriptions should give each of the label_names, and nothing else, a string"
    return ""


def _all_are(kind: type, values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is kind for value in values)
