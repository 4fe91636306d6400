"""Our Muon against the method's reference iteration, and against torch's AdamW for what is left to it."""

import copy

import pytest
import torch
from timm.optim.muon import zeropower_via_newtonschulz

from resattn.training.muon import COEFFICIENTS, Muon, orthogonalize, orthogonalizers


@pytest.mark.parametrize("iterations", [3, 5])
@pytest.mark.parametrize("shape", [(8, 72), (64, 32), (16, 16), (1, 9)])
def test_the_gram_iteration_equals_the_reference_one(shape: tuple[int, int], iterations: int) -> None:
    torch.manual_seed(0)
    # Singular values over four orders of magnitude, as momentum has them.
    matrices = torch.randn(3, *shape) * torch.logspace(0, -4, shape[1])
    reference = [
        zeropower_via_newtonschulz(matrix, iterations, [COEFFICIENTS], dtype=torch.float32)
        for matrix in matrices
    ]
    ours = orthogonalize(matrices, iterations=iterations)
    torch.testing.assert_close(ours, torch.stack(reference), atol=2e-3, rtol=0)


@pytest.mark.parametrize("iterations", [3, 5])
@pytest.mark.parametrize("decades", [1, 4, 8])
@pytest.mark.parametrize("shape", [(64, 288), (128, 1152)])
def test_rounding_to_bfloat16_lets_no_singular_value_grow(
    shape: tuple[int, int], decades: int, iterations: int
) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(*shape), full_matrices=False)
    matrix = (left * torch.logspace(0, -decades, shape[0])) @ right
    short = matrix.bfloat16()
    factors = orthogonalizers((short @ short.mT)[None], iterations=iterations)[0]
    values = torch.linalg.svdvals(factors.bfloat16().float() @ short.float())
    assert 0.6 < values[7] <= values[0] < 1.3


def test_a_zero_matrix_stays_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(1, 4, 9)), torch.zeros(1, 4, 9))


def stepped(weight: torch.Tensor, gradients: list[torch.Tensor], **options: float) -> torch.Tensor:
    parameter = torch.nn.Parameter(weight.clone(memory_format=torch.preserve_format))
    optimizer = Muon([{"params": [parameter], **options}], lr=0.1, weight_decay=0.3)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


def test_the_memory_format_of_weights_and_gradients_does_not_matter() -> None:
    torch.manual_seed(0)
    weight, *gradients = (torch.randn(8, 6, 3, 3) for _ in range(4))
    plain = stepped(weight, gradients, orthogonalize=True)
    last = torch.channels_last
    both = stepped(
        weight.to(memory_format=last), [g.to(memory_format=last) for g in gradients], orthogonalize=True
    )
    mixed = stepped(weight.to(memory_format=last), gradients, orthogonalize=True)
    torch.testing.assert_close(both, plain)
    torch.testing.assert_close(mixed, plain)


def test_products_in_bfloat16_move_weights_nearly_as_those_in_float32() -> None:
    torch.manual_seed(0)
    weight, *gradients = (torch.randn(8, 6, 3, 3) for _ in range(4))
    moved = stepped(weight, gradients, orthogonalize=True) - weight
    parameter = torch.nn.Parameter(weight.clone())
    group = {"params": [parameter], "orthogonalize": True}
    optimizer = Muon([group], lr=0.1, weight_decay=0.3, products="bf16")
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    difference = (parameter.detach() - weight - moved).norm() / moved.norm()
    assert 0 < difference < 0.02


def test_weights_decay_by_the_rate_and_tall_matrices_move_further() -> None:
    weight = torch.ones(8, 2)
    still = stepped(weight, [torch.zeros(8, 2)], orthogonalize=True)
    torch.testing.assert_close(still, weight * (1 - 0.1 * 0.3))
    torch.manual_seed(0)
    moved = still - stepped(weight, [torch.randn(8, 2)], orthogonalize=True)
    values = torch.linalg.svdvals(moved / 0.1)
    assert 0.6 * 2 < values.min() <= values.max() < 1.3 * 2  # sqrt(8 / 2)


def test_the_rest_is_adamw() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Linear(5, 3)
    theirs = copy.deepcopy(ours)
    options = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}
    optimizers = (
        Muon([{"params": list(ours.parameters())}], **options),
        torch.optim.AdamW(theirs.parameters(), **options),
    )
    for _ in range(3):
        images = torch.randn(4, 5)
        for network, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_a_state_of_before_there_were_blocks_goes_on() -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(8, 6, 3, 3))
    optimizer = Muon([{"params": [parameter], "orthogonalize": True}], lr=0.1)
    old = optimizer.state_dict()
    for group in old["param_groups"]:
        del group["blocks"]
    optimizer.load_state_dict(old)
    before = parameter.detach().clone()
    parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert not torch.equal(parameter, before)
