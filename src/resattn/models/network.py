"""The network every variant is an instance of: stem, stages of attention modules, head."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resattn.models.attention_module import AttentionModule

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Output(NamedTuple):
    """What a network says, and where it looked.

    logits: N x classes. masks: `"stage1.0"` -> N x C x H x W or N x 1 x H x W, in the order of the network;
    stages are counted from 1 as in the paper, modules from 0 (`"stage1.0"` is the mask of `stages.0.0`).
    Modules without attention have no entry.
    """

    logits: Tensor
    masks: dict[str, Tensor]


class ClassifierHead(nn.Module):
    """Normalisation and ReLU (optional), global average pool, dropout, hidden layer (optional), classifier.

    Maps N x `in_features` x H x W to N x `num_classes`. `norm` is a normalisation of `in_features` channels,
    followed by a ReLU; None where the last stage's output is activated already. `hidden_features` adds one
    linear layer, without a non-linearity, before the classifier. With `num_classes` 0 there is no classifier,
    and the head returns what the classifier would read: N x (hidden_features or in_features).
    """

    def __init__(
        self,
        *,
        in_features: int,
        num_classes: int,
        norm: nn.Module | None = None,
        drop_rate: float = 0.0,
        hidden_features: int | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.classifier_features = hidden_features or in_features
        self.norm = norm
        self.dropout = nn.Dropout(drop_rate)
        self.hidden = nn.Linear(in_features, hidden_features) if hidden_features else None
        self.fc = _classifier(self.classifier_features, num_classes)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits, N x classes; with `pre_logits` the vector the classifier would read."""
        if self.norm is not None:
            x = functional.relu(self.norm(x))
        x = self.dropout(x.mean((2, 3)))
        if self.hidden is not None:
            x = self.hidden(x)
        return x if pre_logits else cast(Tensor, self.fc(x))

    def reset(self, num_classes: int) -> None:
        """Replace the classifier by a fresh one for `num_classes` classes (0: none)."""
        self.num_classes = num_classes
        self.fc = _classifier(self.classifier_features, num_classes)


class ResidualAttentionNetwork(nn.Module):
    """A classifier whose stages weight their own features with soft masks.

    `network(images)` takes N x channels x H x W, RGB in [0, 1] for three channels, of any H and W, and
    returns N x classes logits. The network normalises inside, with `mean` and `std` per channel on the [0, 1]
    scale, so that training, export and serving cannot disagree; they are no part of the state dict. Each
    stage is a sequence of attention modules, some or all of them without a mask.

    State-dict keys are a contract: `stem.*`, `stages.{i}.{j}.pre|trunk|mask|post.*`, `head.*`.

    `variant` and `options` (JSON-able) are what `resattn.models.create_model` needs, beside `num_classes`, to
    build the same architecture again; `variant` is "" for a network that was put together by hand.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        stem: nn.Module,
        stages: Sequence[Sequence[AttentionModule]],
        head: ClassifierHead,
        num_features: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.head_hidden_size = head.classifier_features
        self.variant: str = ""
        self.options: dict[str, object] = {}
        self.pretrained_cfg: dict[str, object] = {}
        self.default_cfg: dict[str, object] = self.pretrained_cfg
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in stages)
        self.head = head

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 where the network ends with its features."""
        return self.head.num_classes

    @property
    def attention_modules(self) -> dict[str, AttentionModule]:
        """The attention modules in order, as their masks are named: `stage{i}.{j}`, stages from 1, modules from 0."""
        return {
            f"stage{i}.{j}": cast(AttentionModule, module)
            for i, stage in enumerate(self.stages, start=1)
            for j, module in enumerate(cast(nn.ModuleList, stage))
        }

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes, of images in [0, 1], N x channels x H x W."""
        return self.forward_head(self.forward_features(images))

    def forward_with_masks(self, images: Tensor) -> Output:
        """Logits and every mask that made them; see `Output`."""
        x = self.stem(self.normalize(images))
        masks: dict[str, Tensor] = {}
        for name, module in self.attention_modules.items():
            x, mask = module.forward_with_mask(x)
            if mask is not None:
                masks[name] = mask
        return Output(self.forward_head(x), masks)

    def forward_features(self, images: Tensor) -> Tensor:
        """The last stage's output, N x num_features x H' x W'."""
        x: Tensor = self.stem(self.normalize(images))
        for stage in self.stages:
            for module in cast(nn.ModuleList, stage):
                x = module(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of the last stage's output; with `pre_logits` the vector the classifier would read."""
        return cast(Tensor, self.head(x, pre_logits=pre_logits))

    def normalize(self, images: Tensor) -> Tensor:
        """Images of [0, 1] on the scale the stem reads."""
        if torch.compiler.is_exporting() or not images.is_contiguous(memory_format=torch.channels_last):
            return (images - self.mean).div_(self.std)
        # The same values; rows of width x channels numbers, because over runs of three torch broadcasts slowly.
        mean, std = (values.flatten().repeat(images.shape[-1]) for values in (self.mean, self.std))
        rows = (images.permute(0, 2, 3, 1).flatten(2) - mean).div_(std)
        return rows.view(*rows.shape[:2], images.shape[-1], -1).permute(0, 3, 1, 2)

    def get_classifier(self) -> nn.Module:
        """The last linear layer; an identity where `num_classes` is 0."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one for `num_classes` classes (0: none).

        `global_pool` is there because timm passes it. Raises ValueError for anything but "avg" (or None).
        """
        if global_pool not in (None, "avg"):
            raise ValueError(f"these networks pool by average only, not {global_pool!r}")
        self.head.reset(num_classes)
        self.head.fc.to(device=self.mean.device, dtype=self.mean.dtype)
        # What the classes were called does not hold for those that it is to learn.
        kept = {
            k: v for k, v in self.pretrained_cfg.items() if k not in ("label_names", "label_descriptions")
        }
        self.pretrained_cfg = self.default_cfg = kept


def _classifier(in_features: int, num_classes: int) -> nn.Module:
    return nn.Linear(in_features, num_classes) if num_classes > 0 else nn.Identity()
