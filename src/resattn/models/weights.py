"""Weights on disk: safetensors with everything about the network in the header, and never a pickle.

The header's `resattn` entry is one JSON object: `model` (a name of `list_variants()`), `options` (what that
variant was built with), `num_classes`, `input_size` ([channels, height, width]), `label_names` (class ids in
sorted order: logit k belongs to label_names[k]), `label_descriptions` (id -> readable name), `data` (the data
set's name), and any free fields. Its `sha256` covers the other fields and every tensor, so that a damaged
file is refused, not used. Equal networks and metadata make equal files, byte for byte.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from resattn.errors import CannotWrite, ResattnError
from resattn.files import whole_file
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.registry import build_described
from resattn.models.weights_metadata import (
    complete_metadata,
    metadata_from_json,
    metadata_to_json,
    with_tuples,
)

_FLOATS = ("F16", "BF16", "F32")
_AGAIN = "copy or download the file again, or train again"


class _Layout(NamedTuple):
    """What a tensor looks like: safetensors' name of its type, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def save_weights(path: Path | str, network: ResidualAttentionNetwork, *, metadata: Mapping[str, Any]) -> None:
    """Write the network's weights, and what is needed to build and use it again, to one safetensors file.

    `metadata`: `data` (the data set's name), `label_names` (class ids, sorted, one a class),
    `label_descriptions` (id -> readable name), `input_size` (a side in pixels, or channels, height, width),
    and any free fields, JSON values all. Labels and input size may be left out where
    `network.pretrained_cfg` has them (as after `load_weights`); new label_names without descriptions are
    described by themselves. Model, options and number of classes are the network's own; `metadata` names
    `model` and `options` only for a network that was not built by name.

    The file appears under its name whole or not at all, and replaces an older one only then. Weights are
    written in the precision they have (float32, float16 or bfloat16). Raises ResattnError, naming the file,
    for metadata that `load_weights` would refuse, a network that is not what its name and options build, and
    failures to write.
    """
    path = Path(path)
    document = complete_metadata(path, network, metadata)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    _compare(path, document, {name: _layout(tensor) for name, tensor in tensors.items()})
    digest = _digest(metadata_to_json(path, document), tensors)
    # One entry only: safetensors writes several in an order that differs from run to run.
    header = {"resattn": metadata_to_json(path, {**document, "sha256": digest})}
    try:
        with whole_file(path) as temporary:
            temporary.touch()
            permissions = temporary.stat().st_mode
            try:
                save_file(tensors, temporary, header)
            except SafetensorError as error:
                raise CannotWrite(
                    f"cannot write {path}: {error}", "make room there, or choose another place"
                ) from error
            temporary.chmod(permissions)  # safetensors makes files that only their owner can read
            with safe_open(temporary, framework="pt"):  # refuses a header too large to be read again
                pass
    except SafetensorError as error:
        raise ResattnError(
            f"cannot write {path}: {error}", "make room there, or choose another place"
        ) from error


def load_weights(path: Path | str) -> ResidualAttentionNetwork:
    """Build the network a file of `save_weights` describes, with its weights: on the CPU, in evaluation mode.

    The result is float32 whatever precision was saved; its `pretrained_cfg` has the file's `label_names`,
    `label_descriptions`, `input_size` and `data`. Raises ResattnError, naming the file and what is wrong, for
    anything but an undamaged file of `save_weights` whose model this version knows.
    """
    path = Path(path)
    with _opened(path) as (file, text):
        document = metadata_from_json(path, text)
        checksum = document.pop("sha256", None)
        names = list(file.keys())
        _compare(path, document, {name: _stored_layout(file, name) for name in names})
        tensors = {name: file.get_tensor(name) for name in names}
        if _digest(metadata_to_json(path, document), tensors) != checksum:
            raise ResattnError(f"{path} is damaged: its contents do not match its checksum", _AGAIN)
    network = _build(path, document)
    network.load_state_dict(tensors)
    network.pretrained_cfg = {
        **network.pretrained_cfg,
        "num_classes": document["num_classes"],
        "input_size": tuple(document["input_size"]),
        "label_names": tuple(document["label_names"]),
        "label_descriptions": document["label_descriptions"],
        "data": document["data"],
    }
    network.default_cfg = network.pretrained_cfg
    return network.eval()


def read_metadata(path: Path | str) -> dict[str, Any]:
    """What a file of `save_weights` says about its network, without reading the weights.

    Returns the fields listed at the top of this file and the free ones, as JSON gives them. Raises
    ResattnError as `load_weights` does; that the tensors fit and are undamaged is not checked.
    """
    path = Path(path)
    with _opened(path) as (_, text):
        document = metadata_from_json(path, text)
    document.pop("sha256", None)
    return document


def _build(path: Path, document: Mapping[str, Any]) -> ResidualAttentionNetwork:
    """The network that metadata describes, with fresh weights; the global random state stays as it was."""
    options: dict[str, Any] = {name: with_tuples(value) for name, value in document["options"].items()}
    try:
        with torch.random.fork_rng(devices=[]):
            return build_described(document["model"], num_classes=document["num_classes"], options=options)
    except ResattnError as error:
        again = "use the version of resattn that wrote the file, or train again"
        raise ResattnError(f"{path}: {error.what}", again if error.__cause__ else error.mend) from error


def _compare(path: Path, document: Mapping[str, Any], found: Mapping[str, _Layout]) -> None:
    """Refuse tensors that are not those of the model, before anything of their size is allocated."""
    with torch.device("meta"):
        expected = {name: _layout(tensor) for name, tensor in _build(path, document).state_dict().items()}
    wrong = [
        f"{name} is {found[name].dtype} {list(found[name].shape)}, not {layout.dtype} {list(layout.shape)}"
        for name, layout in expected.items()
        if name in found and not _fits(found[name], layout)
    ]
    faults = {
        "missing": sorted(expected.keys() - found.keys()),
        "not of this model": sorted(found.keys() - expected.keys()),
        "of another shape or type": wrong,
    }
    listed = [f"{kind}: {_few(names)}" for kind, names in faults.items() if names]
    if listed:
        raise ResattnError(
            f"{path}: the tensors are not those of {document['model']} with {document['num_classes']} classes"
            f" and the options {document['options']}: {'; '.join(listed)}",
            "keep a network's name, options and weights together: save it as it was built by name",
        )


def _fits(found: _Layout, expected: _Layout) -> bool:
    """Whether a tensor can be loaded where another is expected; any float can become another."""
    same_type = found.dtype == expected.dtype or {found.dtype, expected.dtype} <= set(_FLOATS)
    return same_type and found.shape == expected.shape


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _layout(tensor: Tensor) -> _Layout:
    types = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
    return _Layout(types.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))


def _stored_layout(file: Any, name: str) -> _Layout:
    stored = file.get_slice(name)
    return _Layout(stored.get_dtype(), tuple(stored.get_shape()))


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the metadata's text, and each tensor's name, layout and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        dtype, shape = _layout(tensors[name])
        digest.update(f"\n{name} {dtype} {list(shape)}\n".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, str]]:
    """An open file of `save_weights` and the text of its metadata; failures to read it name it."""
    try:
        _refuse_pickle(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "resattn" not in header:
                raise ResattnError(
                    f"{path} has no metadata of resattn: it was not written by `save_weights`",
                    "take weights.safetensors of a run folder, or write the file with `save_weights`",
                )
            yield file, header["resattn"]
    except OSError as error:
        raise ResattnError(
            f"{path} could not be read: {error.strerror or error}", "check the path"
        ) from error
    except SafetensorError as error:
        raise ResattnError(f"{path} is no safetensors file, or is truncated: {error}", _AGAIN) from error


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        beginning = file.read(2)
    # A pickle begins with its protocol; torch's newer form is a zip archive of pickles.
    if beginning == b"PK" or (beginning[:1] == b"\x80" and beginning[1:] <= b"\x05"):
        raise ResattnError(
            f"{path} is a pickle (a PyTorch checkpoint): it could run code, and is never loaded",
            "take weights.safetensors of the run folder",
        )
