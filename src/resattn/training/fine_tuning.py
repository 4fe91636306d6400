"""Training that begins with trained weights: where they come from, what of them is taken, the classifier first."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from resattn.errors import ResattnError
from resattn.models.loading import find_weights
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.registry import build_described
from resattn.models.weights import load_weights, read_metadata
from resattn.training.recipe import OptionValue, Recipe
from resattn.training.yaml_fields import is_option_value

PRETRAINED = "pretrained"
RECIPE_NAME = "fine-tune"
CLASSIFIER = "head.fc."
# What an option may be beside the weights: it has no part in them.
_FREE_OPTIONS = frozenset({"drop_rate"})


def starting_weights(recipe: Recipe) -> Path | None:
    """The file a run begins with, None where it begins with random weights; ResattnError where it is not there."""
    if recipe.start_from is None:
        return None
    return find_weights(recipe.model if recipe.start_from == PRETRAINED else recipe.start_from)


def source_model(start_from: str) -> str:
    """The network that the weights in a run folder or file are of; ResattnError where there are none."""
    return str(read_metadata(find_weights(start_from))["model"])


def starting_point(recipe: Recipe) -> tuple[Recipe, Path | None]:
    """The file a run begins with, and the recipe with the model's options of those weights, where it sets no others.

    Raises ResattnError where the weights are not there, or have options that a recipe cannot hold.
    """
    weights = starting_weights(recipe)
    if weights is None:
        return recipe, None
    options: dict[str, OptionValue] = {}
    for name, value in read_metadata(weights)["options"].items():
        if not is_option_value(value):
            raise ResattnError(
                f"{weights} was built with {name}={value}, which no recipe can say",
                "start from the weights of a run",
            )
        if name not in _FREE_OPTIONS:
            options[name] = value
    return recipe.replace(model_options=options | recipe.model_options), weights


def starting_network(
    recipe: Recipe, class_ids: Sequence[str], weights: Path | None
) -> ResidualAttentionNetwork:
    """The network of a recipe for the given classes, on the CPU: random by the recipe's seed, or from `weights`.

    The classifier of `weights` is kept where its classes are the same, and random otherwise. Raises ResattnError where
    there is no such network, and where the weights are of another model, or of other options, than the recipe's.
    """
    torch.manual_seed(recipe.seed)
    network = build_described(recipe.model, num_classes=len(class_ids), options=recipe.model_options)
    if weights is None:
        return network
    trained = load_weights(weights)
    _require_same_architecture(weights, trained, network)
    tensors = trained.state_dict()
    if trained.pretrained_cfg["label_names"] != tuple(class_ids):
        fresh = network.state_dict()
        tensors |= {name: tensor for name, tensor in fresh.items() if name.startswith(CLASSIFIER)}
    network.load_state_dict(tensors)
    return network


def _require_same_architecture(
    weights: Path, trained: ResidualAttentionNetwork, network: ResidualAttentionNetwork
) -> None:
    if trained.variant != network.variant:
        raise ResattnError(
            f"{weights} holds weights of {trained.variant}, and the model is {network.variant}",
            f"train with --model {trained.variant}, or leave --model out",
        )
    theirs, ours = (
        {name: _as_said(value) for name, value in one.options.items() if name not in _FREE_OPTIONS}
        for one in (trained, network)
    )
    if theirs != ours:
        raise ResattnError(
            f"{weights} holds weights of {trained.variant} with the options {theirs}, and the recipe says {ours}",
            "leave them out: those of the weights are taken",
        )


def _as_said(value: object) -> object:
    """An option as a list or one value: weights files give tuples back, command lines one value for a list of one."""
    if not isinstance(value, tuple | list):
        return value
    return value[0] if len(value) == 1 else list(value)


def head_steps(recipe: Recipe, steps: int) -> int:
    """How many of a run's `steps` optimizer steps, at its beginning, train the classifier alone."""
    return round(recipe.head_first * steps)


def classifier_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Logits, N x classes, of which only the classifier gets a gradient, and all else stays as it is.

    The network is put into evaluation mode, so that no running statistics move; dropout alone acts as in training.
    """
    assert isinstance(network, ResidualAttentionNetwork)
    network.eval()
    network.head.dropout.train()
    with torch.no_grad():
        features = network.forward_head(network.forward_features(images), pre_logits=True)
    logits: Tensor = network.get_classifier()(features)
    return logits


def training_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Logits, N x classes, with the whole network in training mode.

    Raises ResattnError for a single image whose maps become single pixels: batch normalisation has nothing to average.
    """
    if not network.training:
        network.train()
    try:
        logits: Tensor = network(images)
    except ValueError as error:
        if len(images) > 1:
            raise
        raise ResattnError(
            f"batches of one image cannot be trained on at {images.shape[-1]} pixels: {error}",
            "give --batch-size 2 or more",
        ) from error
    return logits
