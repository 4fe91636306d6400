import pytest
import torch

from resattn.models import create_model
from resattn.training.from_python import full_recipe
from resattn.training.optimization import make_optimizer, parameter_groups, schedule_factor
from resattn.training.recipe import Optimization


def test_every_parameter_is_in_one_group() -> None:
    network = create_model("resattn_mini", num_classes=7)
    groups = parameter_groups(network, Optimization())
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


def test_biases_and_normalisation_are_not_decayed() -> None:
    network = create_model("resattn_mini", num_classes=7)
    for group in parameter_groups(network, Optimization(weight_decay=0.1)):
        assert all((parameter.ndim <= 1) == (group["weight_decay"] == 0) for parameter in group["params"])


def test_muon_leaves_the_first_convolution_and_the_classifier_to_adamw() -> None:
    network = create_model("resattn_mini", num_classes=7)
    optimizer = make_optimizer(network, Optimization(lr=0.02, rest_lr=0.003))
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert rates[id(network.stem[0].weight)] == 0.003
    assert rates[id(network.get_classifier().weight)] == 0.003
    assert rates[id(network.stages[1][0].trunk.conv1.weight)] == 0.02


def test_muon_takes_the_convolutions_of_units_behind_the_first_one() -> None:
    network = create_model("resattn_mini", num_classes=7, stem_units=1)
    groups = {group["name"]: group["params"] for group in parameter_groups(network, Optimization())}
    hidden = {id(parameter) for parameter in groups["hidden"]}
    assert id(network.stem[1].conv1.weight) in hidden
    assert id(network.stem[0].weight) not in hidden


def test_a_muon_step_moves_a_convolution_by_an_orthogonal_matrix() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential()
    network.add_module("conv", torch.nn.Conv2d(16, 8, 3, bias=False))
    before = network.conv.weight.detach().clone()
    optimizer = make_optimizer(network, Optimization(lr=0.1, weight_decay=0.0))
    network.conv.weight.grad = torch.randn_like(before)
    optimizer.step()
    moved = ((before - network.conv.weight.detach()) / 0.1).flatten(1)
    singular_values = torch.linalg.svdvals(moved)
    assert 0.6 < singular_values.min() <= singular_values.max() < 1.3  # Newton-Schulz is approximate


def test_a_muon_step_moves_each_group_of_a_grouped_convolution_as_a_convolution_of_its_own() -> None:
    torch.manual_seed(0)
    optimization = Optimization(lr=0.1, weight_decay=0.2)
    # One group has a hundredth of the others' gradient: as one matrix it would hardly move.
    gradient = (
        torch.randn(8, 4, 3, 3)
        * torch.tensor([1.0, 1.0, 0.01, 1.0]).repeat_interleave(2)[:, None, None, None]
    )
    grouped = torch.nn.Sequential(torch.nn.Conv2d(16, 8, 3, groups=4, bias=False))
    alone = [torch.nn.Sequential(torch.nn.Conv2d(4, 2, 3, bias=False)) for _ in range(4)]
    for network, weight in zip(alone, grouped[0].weight.detach().chunk(4), strict=True):
        network[0].weight.data.copy_(weight)
    for network, its in zip([grouped, *alone], [gradient, *gradient.chunk(4)], strict=True):
        network.to(memory_format=torch.channels_last)
        network[0].weight.grad = its.clone()
        make_optimizer(network, optimization).step()
    torch.testing.assert_close(grouped[0].weight, torch.cat([network[0].weight for network in alone]))


def test_muon_reads_the_groups_of_a_resnext_unit_from_its_convolutions() -> None:
    network = create_model("resattn_mini", num_classes=7, unit="resnext")
    groups = {
        group["blocks"]: group["params"]
        for group in parameter_groups(network, Optimization())
        if group["name"] == "hidden"
    }
    assert set(groups) == {1, 32}
    grouped = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d) and module.groups > 1 and module.weight.shape[1] > 1
    }
    assert {id(parameter) for parameter in groups[32]} == grouped


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_rises_and_falls_to_zero(schedule) -> None:
    optimization = Optimization(schedule=schedule, warmup=0.1)
    factors = [schedule_factor(optimization, step, 100) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[0] > 0
    assert max(factors) == pytest.approx(1.0)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.02
    assert schedule_factor(optimization, 100, 100) == pytest.approx(0)


def test_a_constant_rate_stays() -> None:
    optimization = Optimization(schedule="constant", warmup=0.0)
    assert {schedule_factor(optimization, step, 50) for step in range(50)} == {1.0}


def test_the_rate_drops_where_the_papers_does() -> None:
    optimization = Optimization(schedule="drops", warmup=0.0)
    factors = [
        schedule_factor(optimization, step, 160_000) for step in (0, 63_999, 64_000, 95_999, 96_000, 159_999)
    ]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_seed_studys_rate_has_its_two_phases() -> None:
    recipe = full_recipe("seed-study", {})
    epochs = [0, 9, 10, 11, 29]
    rates = [
        recipe.optimization.lr * schedule_factor(recipe.optimization, epoch * 3125, 30 * 3125)
        for epoch in epochs
    ]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 3e-5, 3e-5])
