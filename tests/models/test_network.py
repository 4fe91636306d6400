"""The network as a container: normalisation, masks, head, and what export and tracing make of it."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from resattn.errors import ResattnError
from resattn.evaluation.inference import class_names
from resattn.models import Output, create_model
from resattn.models.attention_module import AttentionModule
from resattn.models.network import IMAGENET_MEAN, IMAGENET_STD, ClassifierHead, ResidualAttentionNetwork


def by_hand(mean: tuple[float, ...] = IMAGENET_MEAN) -> ResidualAttentionNetwork:
    def module(mask: nn.Module | None) -> AttentionModule:
        return AttentionModule(pre=nn.Identity(), trunk=nn.Identity(), mask=mask, post=nn.Identity())

    return ResidualAttentionNetwork(
        stem=nn.Identity(),
        stages=[[module(nn.Sigmoid()), module(None)], [module(None), module(nn.Sigmoid())]],
        head=ClassifierHead(in_features=3, num_classes=5),
        num_features=3,
        mean=mean,
        std=IMAGENET_STD,
    )


def test_images_are_normalised_inside_and_the_state_dict_does_not_know() -> None:
    network = by_hand()
    images = torch.rand(2, 3, 4, 4)
    expected = torch.stack([(images[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3)], dim=1)
    torch.testing.assert_close(network.normalize(images), expected)
    assert list(network.state_dict()) == ["head.fc.weight", "head.fc.bias"]
    assert network.to(torch.float64).mean.dtype == torch.float64


@pytest.mark.parametrize("channels", [1, 3])
def test_the_memory_format_of_images_changes_no_bit_of_their_normalisation(channels: int) -> None:
    network = create_model("resattn_mini", in_chans=channels)
    images = torch.rand(2, channels, 6, 5)
    last = network.normalize(images.to(memory_format=torch.channels_last))
    assert torch.equal(last, network.normalize(images))
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_masks_are_named_after_their_place() -> None:
    images = torch.rand(2, 3, 4, 4)
    network = by_hand()
    output = network.forward_with_masks(images)
    assert isinstance(output, Output)
    assert list(output.masks) == ["stage1.0", "stage2.1"]
    first = network.normalize(images)
    torch.testing.assert_close(output.masks["stage1.0"], torch.sigmoid(first))
    second = (1 + output.masks["stage1.0"]) * first
    torch.testing.assert_close(output.masks["stage2.1"], torch.sigmoid(second))
    torch.testing.assert_close(output.logits, network(images))


def test_the_head_s_parts_are_optional() -> None:
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(ClassifierHead(in_features=4, num_classes=0)(x), x.mean((2, 3)))
    norm = nn.BatchNorm2d(4).eval()
    torch.testing.assert_close(
        ClassifierHead(in_features=4, num_classes=0, norm=norm)(x), norm(x).relu().mean((2, 3))
    )
    head = ClassifierHead(in_features=4, num_classes=6, hidden_features=10, drop_rate=0.5).eval()
    assert head(x, pre_logits=True).shape == (2, 10)
    torch.testing.assert_close(head(x), head.fc(head.hidden(x.mean((2, 3)))))
    assert not torch.equal(head.train()(x), head(x))


def test_other_poolings_are_refused() -> None:
    network = by_hand()
    network.reset_classifier(3, global_pool="avg")
    with pytest.raises(ValueError, match="average only, not 'max'"):
        network.reset_classifier(3, global_pool="max")


def test_a_new_classifier_is_where_the_network_is() -> None:
    network = by_hand().to(torch.bfloat16)
    network.reset_classifier(0)
    network.reset_classifier(4)
    assert network.get_classifier().weight.dtype == torch.bfloat16
    assert by_hand().to("meta").head.fc.weight.device.type == "meta"


class WithMasks(nn.Module):
    def __init__(self, network: ResidualAttentionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits, masks = self.network.forward_with_masks(images)
        return (logits, *masks.values())


@pytest.fixture(params=["resattn_mini", "resattn_cifar_56"])
def trained(request: pytest.FixtureRequest) -> WithMasks:
    torch.manual_seed(0)
    network = create_model(request.param, num_classes=5)
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.3)
    return WithMasks(network.eval())


def test_export_keeps_logits_and_masks_for_any_batch(trained: WithMasks) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(trained, (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    images = torch.rand(5, 3, 32, 32)
    for found, expected in zip(program.module()(images), trained(images), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("trained", ["resattn_mini"], indirect=True)
def test_tracing_keeps_logits_and_masks(trained: WithMasks) -> None:
    images = torch.rand(2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(trained, images)
    for found, expected in zip(traced(images), trained(images), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_fresh_classifier_has_no_names() -> None:
    network = create_model("resattn_mini", num_classes=2)
    network.pretrained_cfg = {**network.pretrained_cfg, "label_names": ("a", "b"), "label_descriptions": {}}
    network.reset_classifier(3)
    assert not {"label_names", "label_descriptions"} & network.pretrained_cfg.keys()
    network.pretrained_cfg["label_names"] = ("a", "b")
    with pytest.raises(ResattnError, match="has 3 outputs and the names of 2 classes"):
        class_names(network)
