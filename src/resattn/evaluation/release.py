"""A finished run made ready to hand out: a small weights file, what it reaches, and a model card that says so."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from resattn.data.packed import PackedSplit, open_split
from resattn.errors import ResattnError
from resattn.evaluation.classification import ClassificationResult, evaluate
from resattn.evaluation.measured_images import is_other_than_trained_on
from resattn.evaluation.model_card import CardFacts, model_card
from resattn.files import whole_text_file
from resattn.hardware import Execution
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.pretrained import FOLDER as SHIPPED_FOLDER
from resattn.models.weights import load_weights, read_metadata, save_weights
from resattn.version import __version__

# Half precision is kept where it changes the number of right answers by no more than 2 in 10,000.
TOLERATED_SHARE = 2e-4
StoredAs = Literal["float16", "float32"]


@dataclass(frozen=True)
class Release:
    """What `release` wrote, and what it measured on the weights it wrote.

    `full` is the evaluation of the run's own float32 weights, `result` that of the released file. `stored_as` is the
    number format of the file and `reason` one sentence on why.
    """

    weights: Path
    results: Path
    card: Path
    stored_as: StoredAs
    reason: str
    full: ClassificationResult
    result: ClassificationResult


def release(
    weights: Path,
    *,
    environment: Mapping[str, Any],
    out: Path,
    name: str | None = None,
    weights_as: StoredAs | Literal["auto"] = "auto",
    execution: Execution | None = None,
) -> Release:
    """Write NAME.safetensors, NAME.json and NAME.md to `out`: weights, exact figures, model card.

    `weights` is the file of a finished run, `environment` what the run recorded of its machine. With `weights_as`
    "auto" they are stored in half precision where that costs no more than 2 right answers in 10,000 on the official
    validation split (computed in float32), in float32 otherwise. Every figure is measured on the file that was written.
    `name` is the network's own where left out. Raises ResattnError for weights that are not a run's, and data that are
    not prepared, or from other files since.
    """
    metadata = read_metadata(weights)
    if "recipe" not in metadata or "train_seconds" not in metadata:
        raise ResattnError(
            f"{weights} does not say how it was trained", "release the run folder of a training"
        )
    split = open_split(metadata["data"], "val")
    if is_other_than_trained_on(split, environment):
        raise ResattnError(
            f"{split.data} was prepared anew, from other files, since the training began: images that the network has "
            "seen may be among those of val",
            "prepare it from the same files again, or train anew",
        )
    network = load_weights(weights)
    full = evaluate(network, split, execution=execution)
    name = name or metadata["model"]
    file = out / f"{name}.safetensors"
    stored_as, reason, result = _store(file, network, metadata, split, full, weights_as, execution)
    facts = _facts(file, network, metadata, environment, stored_as, result)
    card, results = file.with_suffix(".md"), file.with_suffix(".json")
    with whole_text_file(card) as text:
        text.write(model_card(CardFacts(name, facts, result, network, _is_shipped(file, metadata["model"]))))
    with whole_text_file(results) as text:  # last: what has this file is complete
        text.write(json.dumps(facts, indent=2) + "\n")
    return Release(file, results, card, stored_as, reason, full, result)


def _store(
    file: Path,
    network: ResidualAttentionNetwork,
    metadata: Mapping[str, Any],
    split: PackedSplit,
    full: ClassificationResult,
    asked: StoredAs | Literal["auto"],
    execution: Execution | None,
) -> tuple[StoredAs, str, ClassificationResult]:
    """Write the smallest file that answers alike; returns its number format, why, and its flip-averaged evaluation."""
    half = copy.deepcopy(network).half()
    if asked == "float32":
        reason = "float32 was asked for"
    elif all(bool(torch.isfinite(tensor).all()) for tensor in half.state_dict().values()):
        save_weights(file, half, metadata=metadata)
        result = evaluate(load_weights(file), split, execution=execution, flip="average")
        difference = abs(_right(result) - _right(full))
        reason = f"half precision changes the number of right answers by {difference} of {full.images:,}"
        if asked == "float16" or difference <= TOLERATED_SHARE * full.images:
            return "float16", reason, result
        reason += f", more than {TOLERATED_SHARE:.2%}"
    else:
        reason = "half precision cannot hold some of the weights"
    save_weights(file, network, metadata=metadata)
    return "float32", reason, evaluate(load_weights(file), split, execution=execution, flip="average")


def _right(result: ClassificationResult) -> int:
    return int(result.confusion.trace())


def _facts(
    file: Path,
    network: ResidualAttentionNetwork,
    metadata: Mapping[str, Any],
    environment: Mapping[str, Any],
    stored_as: StoredAs,
    result: ClassificationResult,
) -> dict[str, Any]:
    """The fields of results.json, and what else the card and the package's list of weights need."""
    content = file.read_bytes()
    recipe = yaml.safe_load(metadata["recipe"])
    return {
        **result.to_json(),
        "file": file.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "stored_as": stored_as,
        "options": dict(network.options),
        "input_size": list(metadata["input_size"]),
        "train_seconds": metadata["train_seconds"],
        "steps": recipe["steps"],
        "seed": recipe["seed"],
        **_origin(environment),
        "sittings": [_origin(sitting) for sitting in environment.get("sittings", [])],
        "released_with": f"resattn {__version__}",
        "recipe": metadata["recipe"],
    }


def _origin(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "commit": environment.get("commit"),
        "machine": {name: environment.get(name) for name in ("cpu", "threads", "device", "platform")},
        "versions": environment.get("versions"),
    }


def _is_shipped(file: Path, model: str) -> bool:
    """Whether the file lies where the package looks for the weights of `model`."""
    return file.resolve() == (SHIPPED_FOLDER / f"{model}.safetensors").resolve()
