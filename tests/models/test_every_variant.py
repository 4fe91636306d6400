"""What holds for every registered network, whoever wrote its layers."""

import re

import pytest
import timm
import torch
from torch import Tensor, nn

from resattn.models import ResidualAttentionNetwork, create_model, list_variants
from resattn.models.attention_module import AttentionModule

KEY = re.compile(r"(stem\.|stages\.\d+\.\d+\.(pre|trunk|mask|post)\.|head\.)")

MASKS = {
    "resattn_56": ["stage1.0", "stage2.0", "stage3.0"],
    "resattn_92": ["stage1.0", "stage2.0", "stage2.1", "stage3.0", "stage3.1", "stage3.2"],
    "resattnext_56": ["stage1.0", "stage2.0", "stage3.0"],
    "resattnext_92": ["stage1.0", "stage2.0", "stage2.1", "stage3.0", "stage3.1", "stage3.2"],
    "resattn_inception_56": ["stage1.0", "stage2.0", "stage3.0"],
    **{
        f"resattn_cifar_{depth}": [f"stage{i}.{j}" for i in (1, 2, 3) for j in range(modules)]
        for depth, modules in {56: 1, 92: 2, 128: 3, 164: 4, 236: 6}.items()
    },
    "seed_residual": [],
    "seed_inception": [],
    "seed_inception_attention_v2": ["stage1.0"],
    "seed_inception_attention_v3": ["stage1.0"],
    "seed_inception_attention_v4": ["stage1.0"],
    "resattn_mini": ["stage1.0", "stage2.0"],
    "resattn_small": ["stage1.0", "stage2.0"],
    "resattn_mini_plain": [],
    "resattn_small_plain": [],
    "resattn_mini_se": [],
    "resattn_small_se": [],
}


@pytest.fixture(scope="module", params=list_variants())
def network(request: pytest.FixtureRequest) -> ResidualAttentionNetwork:
    """Every variant in turn, built once for all tests of this file, which leave its weights as they are."""
    torch.manual_seed(0)
    network = create_model(request.param, num_classes=7)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # statistics as after some training: without them hundreds of layers overflow
    with torch.no_grad():
        network(torch.rand(4, 3, 48, 48))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(0))


def attention_modules(network: nn.Module) -> list[AttentionModule]:
    modules = [module for module in network.modules() if isinstance(module, AttentionModule)]
    return [module for module in modules if module.mask is not None]


def test_the_family_is_complete() -> None:
    assert sorted(list_variants()) == sorted(MASKS)


def test_state_dict_keys_are_the_contract(network: ResidualAttentionNetwork) -> None:
    assert [key for key in network.state_dict() if not KEY.match(key)] == []


def test_timm_knows_it(network: ResidualAttentionNetwork) -> None:
    name = network.variant
    assert timm.is_model(name)
    assert name in timm.list_models("resattn*") + timm.list_models("seed_*")
    cfg = network.pretrained_cfg
    assert cfg is network.default_cfg
    assert cfg["architecture"] == name
    assert (cfg["mean"], cfg["std"]) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert network.get_submodule(cfg["classifier"]) is network.get_classifier()
    first = network.get_submodule(cfg["first_conv"])
    assert isinstance(first, nn.Conv2d)
    assert first is next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        shape = network.forward_features(torch.rand(1, *cfg["input_size"])).shape
    assert shape == (1, network.num_features, *cfg["pool_size"])


def test_masks_have_the_documented_keys_shapes_and_range(
    network: ResidualAttentionNetwork, images: Tensor
) -> None:
    with torch.no_grad():
        logits, masks = network.forward_with_masks(images)
        assert torch.equal(logits, network(images))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert list(masks) == MASKS[network.variant]
    for mask in masks.values():
        assert mask.dim() == 4
        assert len(mask) == 2
        assert mask.min() >= 0
        assert mask.max() <= 1


@pytest.mark.parametrize("size", [(33, 33), (47, 35)])
def test_odd_sizes_work(network: ResidualAttentionNetwork, size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = network(torch.rand(1, 3, *size))
    assert logits.shape == (1, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    "name",
    [
        "resattn_56",
        "resattnext_56",
        "resattn_inception_56",
        "resattn_cifar_56",
        "seed_inception_attention_v3",
        "resattn_small",
    ],
)
def test_large_odd_sizes_work(name: str) -> None:
    network = create_model(name, num_classes=7).eval()
    with torch.no_grad():
        logits, masks = network.forward_with_masks(torch.rand(1, 3, 225, 190))
    assert logits.shape == (1, 7)
    assert list(masks) == MASKS[name]


def test_every_parameter_gets_a_gradient(network: ResidualAttentionNetwork) -> None:
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():  # what begins at zero hides what lies before it, at the first step only
            parameter.data.normal_(std=0.1, generator=generator)
    network.train()
    images = torch.rand(4, 3, 49, 49, generator=generator)
    # Logits of their own weight, since the gradient of their plain sum vanishes in batch normalisation.
    (network(images) * torch.randn(4, 7, generator=generator)).sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    unmoved = [
        name
        for name, parameter in network.named_parameters()
        if parameter.dim() > 1 and parameter.grad is not None and not parameter.grad.any()
    ]
    network.eval().zero_grad(set_to_none=True)
    network.load_state_dict(weights)
    assert (without, unmoved) == ([], [])


def test_zero_logits_give_the_paper_s_factors_and_a_zero_mask_the_trunk(
    network: ResidualAttentionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in attention_modules(network)[:2]:
        assert isinstance(module.mask, nn.Module)
        first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
        x = torch.rand(1, first.in_channels, 17, 19)
        with torch.no_grad():
            before = module.pre(x)
            trunk = module.trunk(before)
            zeros = torch.zeros_like(module.mask(before))
            monkeypatch.setattr(module.mask, "logits", lambda _, zeros=zeros: zeros)
            monkeypatch.setattr(module, "learning", "residual")
            torch.testing.assert_close(module(x), module.post(1.5 * trunk))
            monkeypatch.setattr(module, "learning", "naive")
            torch.testing.assert_close(module(x), module.post(0.5 * trunk))
            monkeypatch.setattr(module, "learning", "residual")
            monkeypatch.setattr(module.mask, "forward", lambda _, zeros=zeros: zeros)
            torch.testing.assert_close(module(x), module.post(trunk))
            monkeypatch.undo()


def test_the_head_can_be_exchanged(network: ResidualAttentionNetwork, images: Tensor) -> None:
    fc = network.get_classifier()
    with torch.no_grad():
        features = network.forward_features(images)
        assert features.shape[:2] == (2, network.num_features)
        vectors = network.forward_head(features, pre_logits=True)
        assert vectors.shape == (2, network.head_hidden_size)
        torch.testing.assert_close(fc(vectors), network(images))
        network.reset_classifier(11)
        assert network.num_classes == 11
        assert network(images).shape == (2, 11)
        network.reset_classifier(0)
        assert network.num_classes == 0
        assert torch.equal(network(images), vectors)
    network.reset_classifier(7)
    network.head.fc = fc


def test_it_is_built_without_a_classifier_and_for_other_channels(network: ResidualAttentionNetwork) -> None:
    with torch.device("meta"):
        headless = timm.create_model(network.variant, num_classes=0)
        gray = timm.create_model(network.variant, in_chans=1)
    # Saving and loading compare with a network that takes no memory.
    assert {tensor.device.type for tensor in gray.state_dict().values()} == {"meta"}
    assert headless.num_classes == 0
    assert network.state_dict().keys() - headless.state_dict().keys() == {"head.fc.weight", "head.fc.bias"}
    assert gray.num_classes == network.pretrained_cfg["num_classes"]
    assert gray.options == {"in_chans": 1}
    assert gray.stem(gray.normalize(torch.empty(2, 1, 65, 65, device="meta"))).dim() == 4


def test_channels_last_changes_nothing_and_bfloat16_little(
    network: ResidualAttentionNetwork, images: Tensor
) -> None:
    def first_stage(images: Tensor) -> Tensor:
        x = network.stem(network.normalize(images))
        for module in network.stages[0].children():
            x = module(x)
        return x

    with torch.no_grad():
        # In double precision: along hundreds of untrained layers the last digits of a float grow to thousandths.
        network.double()
        expected, expected_features = network(images.double()), first_stage(images.double())
        network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(images.double()), expected, rtol=1e-9, atol=1e-9)
        network.float()
        assert network.forward_features(images).is_contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits, masks = network.forward_with_masks(images)
            features = first_stage(images)
    assert logits.isfinite().all()
    # A resize to float32 would silently take all that follows out of half precision.
    assert {tensor.dtype for tensor in (logits, *masks.values())} == {torch.bfloat16}
    # Not the logits: along hundreds of untrained layers the last digits grow to whole numbers.
    similarity = torch.cosine_similarity(features.double().flatten(), expected_features.flatten(), dim=0)
    assert similarity > 0.99
