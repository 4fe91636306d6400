"""The weights that ship with the package: which networks have them, what they reach, how timm loads them.

In `FOLDER` lie, for every network that has weights, three files that `resattn release` wrote: NAME.safetensors,
NAME.json (the figures, measured on that very file, and its SHA-256) and NAME.md, the model card.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from timm.models import PretrainedCfg

from resattn.errors import ResattnError
from resattn.models.weights_metadata import metadata_from_json, with_tuples

FOLDER = Path(__file__).parent / "pretrained"
_INSTALL_AGAIN = "install resattn again: pip install --force-reinstall --no-deps resattn"
# What tells timm of weights that are the caller's own.
_SOURCES = ("file", "url", "state_dict", "hf_hub_id")


@dataclass(frozen=True)
class Pretrained:
    """One network's shipped weights: the file, its SHA-256, and the file's own evaluation.

    `top1` and `top5` are single-view accuracies as fractions of 1 on the split `split` of `data`; `recipe` is the YAML
    of the run that made the weights.
    """

    model: str
    file: Path
    sha256: str
    data: str
    split: str
    top1: float
    top5: float
    recipe: str

    def verified_file(self) -> Path:
        """The weights file, once its contents have been checked; ResattnError, naming it, where they are not whole."""
        try:
            with self.file.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ResattnError(
                f"{self.file} could not be read: {error.strerror or error}", _INSTALL_AGAIN
            ) from error
        if digest != self.sha256:
            raise ResattnError(f"{self.file} is damaged: its SHA-256 is not the released one", _INSTALL_AGAIN)
        return self.file


def pretrained_names() -> list[str]:
    """The networks that have weights in `FOLDER`, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json") if path.with_suffix(".safetensors").is_file())


def best_pretrained() -> str:
    """The network that is taken where a user names none: of those with weights, the one with the highest top-1.

    Raises ResattnError where no weights ship.
    """
    names = pretrained_names()
    if not names:
        raise ResattnError(
            "no network ships with this resattn", "name a run, a weights file or a trained model"
        )
    return max(names, key=lambda name: find_pretrained(name).top1)


def find_pretrained(model: str) -> Pretrained:
    """The shipped weights of a network; ResattnError, naming those that have some, where it has none."""
    names = pretrained_names()
    if model not in names:
        train = f"train it with `resattn train --model {model}` and name the run"
        raise ResattnError(
            f"no weights ship for {model}",
            f"choose one with weights ({', '.join(names)}), or {train}" if names else train,
        )
    path = FOLDER / f"{model}.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Pretrained(
            model=facts["model"],
            file=FOLDER / facts["file"],
            **{name: facts[name] for name in ("sha256", "data", "split", "top1", "top5", "recipe")},
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ResattnError(f"{path} is damaged: {type(error).__name__} {error}", _INSTALL_AGAIN) from error


def timm_source(model: str) -> dict[str, str]:
    """The field of timm's configuration that says where a network's shipped weights lie; empty where it has none."""
    return {"file": str(FOLDER / f"{model}.safetensors")} if model in pretrained_names() else {}


def names_own_weights(options: Mapping[str, Any]) -> bool:
    """Whether the arguments of `timm.create_model` say themselves where the weights are."""
    given = (options.get("pretrained_cfg"), options.get("pretrained_cfg_overlay"))
    # timm takes a mapping, an object of its own, or the name of a configuration.
    return any(cfg.get(source) for cfg in map(_mapping, given) for source in _SOURCES)


def only_own_weights(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` that name their own weights, so that timm does not prefer the shipped file to an address."""
    overlay = _mapping(options.get("pretrained_cfg_overlay"))
    if any(overlay.get(source) for source in _SOURCES):
        overlay = {"file": None, **overlay}
    return {**options, "pretrained_cfg_overlay": overlay or None}


def _mapping(cfg: object) -> dict[str, Any]:
    if isinstance(cfg, PretrainedCfg):
        return dataclasses.asdict(cfg)
    return dict(cfg) if isinstance(cfg, Mapping) else {}


def require_all_loaded(model: str, keys: Iterable[str]) -> None:
    """Raise ResattnError unless the shipped file has all layers of the network with these keys but the classifier."""
    try:
        with safe_open(find_pretrained(model).file, framework="pt") as file:
            there = set(file.keys())
    except SafetensorError as error:
        raise ResattnError(f"the weights of {model} cannot be read: {error}", _INSTALL_AGAIN) from error
    if other := sorted(key for key in there ^ set(keys) if not key.startswith("head.fc.")):
        raise shipped_do_not_fit(model, f"{other[0]} is in one and not in the other")


def shipped_do_not_fit(model: str, why: str) -> ResattnError:
    """What is raised where options ask for other layers than those whose weights ship."""
    return ResattnError(
        f"the shipped weights of {model} do not fit these options: {why}",
        "leave out options that change the layers, or pretrained",
    )


def with_shipped_weights(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options`, with all that timm needs to load the shipped weights of `model`, which are checked first.

    The shipped network's own options hold where `options` has no others. Its classes and labels go into
    `pretrained_cfg_overlay`: timm then swaps the head for another `num_classes`, and fits the first convolution to
    another `in_chans`. Raises ResattnError where no weights ship for it, and for damaged files.
    """
    path = find_pretrained(model).verified_file()
    try:
        with safe_open(path, framework="pt") as file:
            document = metadata_from_json(path, (file.metadata() or {}).get("resattn", ""))
    except SafetensorError as error:
        raise ResattnError(f"{path} is no safetensors file: {error}", _INSTALL_AGAIN) from error
    described = {
        **timm_source(model),
        "num_classes": document["num_classes"],
        "input_size": tuple(document["input_size"]),
        "label_names": tuple(document["label_names"]),
        "label_descriptions": document["label_descriptions"],
    }
    built_with = {name: with_tuples(value) for name, value in document["options"].items()}
    overlay = {**described, **(options.get("pretrained_cfg_overlay") or {})}
    return {**built_with, **options, "pretrained_cfg_overlay": overlay}
