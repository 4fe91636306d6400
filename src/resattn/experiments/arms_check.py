"""Whether arms can be trained, are measured on the same images and differ in effect, asked before the first run."""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from resattn.data.packed import PackedSplit
from resattn.errors import ResattnError
from resattn.experiments.recipe_effect import effective
from resattn.models.network import ResidualAttentionNetwork
from resattn.training.fine_tuning import starting_network, starting_weights
from resattn.training.job import open_splits
from resattn.training.recipe import Recipe


class _Arm(NamedTuple):
    """An arm made ready to train: what it is measured on, and its network before the first step."""

    name: str
    recipe: Recipe
    val: PackedSplit
    network: ResidualAttentionNetwork


def require_arms_fit(recipes: Mapping[str, Recipe]) -> None:
    """Raise ResattnError, naming the arm, for what would stop a run later or make its score another question's.

    recipes: by arm, the control first. That is: data or weights that are not there, an augmentation that the images are
    too small for, other validation images than the control's, and options that change nothing of another arm's network.
    """
    met: list[_Arm] = []
    for name, recipe in recipes.items():
        arm = _made_ready(name, recipe)
        if met:
            _require_same_images(arm, met[0])
        for other in met:
            _require_another(arm, other)
        met.append(arm)


def _made_ready(name: str, recipe: Recipe) -> _Arm:
    try:
        train, val = open_splits(recipe)
        return _Arm(name, recipe, val, starting_network(recipe, train.class_ids, starting_weights(recipe)))
    except ResattnError as error:
        raise ResattnError(f"arm {name}: {error.what}", error.mend) from error


def _require_same_images(arm: _Arm, control: _Arm) -> None:
    """The same data at another size is fine: a size is a question too."""
    if arm.recipe.data == control.recipe.data:
        return
    one, other = (
        (each.val.class_ids, each.val.labels.tobytes(), each.val.file_names) for each in (arm, control)
    )
    if one != other:
        raise ResattnError(
            f"arm {arm.name} is measured on {arm.recipe.data}, and {control.name} on {control.recipe.data}: scores on "
            "other images or classes cannot be compared",
            "give all arms the same data, or prepare the same files at another --size",
        )


def _require_another(arm: _Arm, other: _Arm) -> None:
    """Raise ResattnError where two arms differ in options of the network alone, and these have no effect."""
    one, two = (
        effective(each.recipe).replace(model="resattn_mini", model_options={}) for each in (arm, other)
    )
    if one == two and _same_network(arm.network, other.network, arm.val.images.shape[1]):
        raise ResattnError(
            f"arm {arm.name} changes nothing: {arm.recipe.model} with {arm.recipe.model_options or 'no options'} is, "
            f"weight by weight, the network of {other.name}",
            "change a field or option that has a say there, or leave the arm out",
        )


def _same_network(one: ResidualAttentionNetwork, two: ResidualAttentionNetwork, side: int) -> bool:
    """Whether two networks begin with the same weights and, with any weights, give the same answers in training."""
    ours, theirs = one.state_dict(), two.state_dict()
    if not _same(ours, theirs):
        return False
    # Other weights than those at the beginning, where a mask may be nothing whatever its form.
    seeded = torch.Generator().manual_seed(0)
    drawn = {
        name: torch.randn(tensor.shape, generator=seeded) * 0.1 + tensor
        for name, tensor in ours.items()
        if tensor.is_floating_point() and "running" not in name
    }
    images = torch.rand(4, 3, side, side, generator=seeded)
    return torch.equal(*(_answers(network, drawn, images) for network in (one, two)))


def _same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        one[name].shape == two[name].shape and torch.equal(one[name], two[name]) for name in one
    )


def _answers(network: ResidualAttentionNetwork, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Logits in training mode, where what is dropped out is the same."""
    network = copy.deepcopy(network)
    network.load_state_dict(dict(weights), strict=False)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        logits: Tensor = network.train()(images)
    return logits
