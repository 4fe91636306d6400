"""Named architectures: how a variant is registered with timm, listed, and built by name.

A file of variants holds `default_cfgs = timm.models.generate_default_cfgs({name: default_cfg(...)})`, one
constructor with keyword options, and for each name an entry point:

    @register_variant
    def resattn_56(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
        return build_network(partial(imagenet_form, modules=(1, 1, 1)), "resattn_56", pretrained, **options)

A constructor takes num_classes, in_chans and drop_rate beside its own options.
"""

import dataclasses
import difflib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import timm
from timm.models import build_model_with_cfg, register_model

from resattn.errors import ResattnError
from resattn.models.network import IMAGENET_MEAN, IMAGENET_STD, ResidualAttentionNetwork
from resattn.models.pretrained import (
    names_own_weights,
    only_own_weights,
    require_all_loaded,
    shipped_do_not_fit,
    timm_source,
    with_shipped_weights,
)
from resattn.models.weights_metadata import LARGEST_OPTION, RESERVED_OPTIONS, beyond_largest

EntryPoint = Callable[..., ResidualAttentionNetwork]

_VARIANTS: list[str] = []

# What timm hands to an entry point beside the architecture's own options.
_TIMM_ARGUMENTS = frozenset(
    {"pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "pretrained_strict", "cache_dir"}
)


def register_variant(entry_point: EntryPoint) -> EntryPoint:
    """Register an entry point with timm and with `list_variants`, under its own name.

    Where weights ship for it, timm is told, so that `timm.list_models(pretrained=True)` names it.
    """
    name = entry_point.__name__
    if name not in _VARIANTS:
        _VARIANTS.append(name)
    if source := timm_source(name):
        configuration = sys.modules[entry_point.__module__].default_cfgs[name]
        configuration.cfgs[configuration.tags[0]] = dataclasses.replace(configuration.default, **source)
        configuration.is_pretrained = True
    register_model(entry_point)
    return entry_point


def list_variants() -> list[str]:
    """The names of all architectures of this package, families together, in the order of their files."""
    return list(_VARIANTS)


def default_cfg(
    *, input_size: int, num_classes: int, pool_size: int, first_conv: str, **more: Any
) -> dict[str, Any]:
    """timm's configuration of a variant.

    `input_size` is the side of the square RGB images it was designed for, `pool_size` the side of the last
    feature map at that size, `first_conv` the name of the first convolution. Mean 0 and std 1, because the
    network takes images in [0, 1] and normalises inside. `more` are further fields of timm's `PretrainedCfg`.
    """
    return {
        "input_size": (3, input_size, input_size),
        "num_classes": num_classes,
        "pool_size": (pool_size, pool_size),
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "first_conv": first_conv,
        "classifier": "head.fc",
        **more,
    }


def normalization(in_chans: int) -> dict[str, tuple[float, ...]]:
    """The `mean` and `std` of images with `in_chans` channels, on the [0, 1] scale.

    ImageNet's for RGB; for any other number of channels the average of its three, for each channel.
    """
    if in_chans == len(IMAGENET_MEAN):
        return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return {"mean": (sum(IMAGENET_MEAN) / 3,) * in_chans, "std": (sum(IMAGENET_STD) / 3,) * in_chans}


def build_network(
    constructor: EntryPoint, variant: str, pretrained: bool, **options: Any
) -> ResidualAttentionNetwork:
    """Build a registered variant through timm, and write its name and options on the network.

    `options` are the constructor's keyword arguments (those bound by a `functools.partial` are what the name
    stands for, and no longer a choice), and what timm adds. `pretrained` loads the shipped weights, unless timm's
    arguments name others. Raises ResattnError for an option that the architecture does not have, and where no weights
    ship for it.
    """
    fixed = constructor.keywords.keys() if isinstance(constructor, partial) else frozenset()
    known = inspect.signature(constructor).parameters.keys() - fixed
    for option in sorted(options.keys() - known - _TIMM_ARGUMENTS):
        raise ResattnError(f"{variant} has no option {option!r}", f"choose from: {', '.join(sorted(known))}")
    shipped = pretrained and not names_own_weights(options)
    if shipped:
        options = with_shipped_weights(variant, options)
    elif pretrained:
        options = only_own_weights(options)
    try:
        network: ResidualAttentionNetwork = build_model_with_cfg(constructor, variant, pretrained, **options)
    except RuntimeError as error:
        if not shipped:
            raise
        raise shipped_do_not_fit(variant, str(error)) from error
    if shipped:
        # timm loads what it finds, and leaves the rest random, where the head is another one.
        require_all_loaded(variant, network.state_dict().keys())
    if shipped and network.num_classes != network.pretrained_cfg["num_classes"]:
        for field in ("label_names", "label_descriptions"):  # those of the head that was swapped
            network.pretrained_cfg.pop(field, None)
    # timm's says three channels, whatever the network was built for.
    size: Any = network.pretrained_cfg["input_size"]
    network.pretrained_cfg["input_size"] = (network.mean.numel(), *size[1:])
    network.variant = variant
    network.options = {
        name: value for name, value in options.items() if name not in _TIMM_ARGUMENTS | {"num_classes"}
    }
    return network


def create_model(
    name: str, *, pretrained: bool = False, num_classes: int | None = None, **options: Any
) -> ResidualAttentionNetwork:
    """Build an architecture by its name, as `timm.create_model` would.

    `pretrained` loads the weights that ship with the package, without a download unless timm is given an address.
    `num_classes` None means the variant's own default, or with `pretrained` the weights' own; any other number gives it
    a fresh head. `options` are the variant's documented keyword options, with `in_chans` and `drop_rate` among them for
    all. Raises ResattnError for an unknown name or option, and for `pretrained` where no weights ship.
    """
    if name.split(".")[0] not in _VARIANTS:
        close = difflib.get_close_matches(name, _VARIANTS, n=3)
        raise ResattnError(
            f"there is no model {name!r}",
            f"did you mean {' or '.join(close)}?" if close else f"choose from: {', '.join(_VARIANTS)}",
        )
    network = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
    return cast(ResidualAttentionNetwork, network)


def build_described(name: str, *, num_classes: int, options: Mapping[str, Any]) -> ResidualAttentionNetwork:
    """Build what a recipe or a weights file says: a name, and options that are the architecture's own.

    Random weights, whatever the options say. Raises ResattnError for what is timm's to be told and not a file's (the
    names of other files, among them), and for values that the network cannot be built with.
    """
    if forbidden := sorted(options.keys() & RESERVED_OPTIONS):
        raise ResattnError(
            f"the options of {name} may not contain {', '.join(forbidden)}",
            "leave it out: the data say how many classes there are, and start_from which weights to begin with",
        )
    if beyond_largest(options):
        raise ResattnError(
            f"the options {dict(options)} of {name} hold a number beyond {LARGEST_OPTION}",
            "give a smaller one: weights files with such are refused",
        )
    try:
        return create_model(name, num_classes=num_classes, **options)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ResattnError(
            f"{name} cannot be built with the options {dict(options)}: {error}",
            "change the model's options: docs/architecture.md says what there is",
        ) from error
