"""One training step and one validation step."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from resattn.data.batches import Batch
from resattn.errors import NotFinite
from resattn.hardware import Execution
from resattn.training.fine_tuning import classifier_logits, head_steps, training_logits
from resattn.training.optimization import make_optimizer, make_schedule
from resattn.training.processes import mean
from resattn.training.recipe import Recipe

VALIDATION_METRICS = ("val_loss", "val_top1", "val_top5")


class NonFiniteLoss(NotFinite):
    """The loss became infinite or no number; going on would only spread it."""


class Classification(pl.LightningModule):
    """A network learning to classify by a recipe whose `steps` are fixed.

    `train_metrics` holds the last step's loss and accuracy, over all processes, as tensors; `val_metrics` the last
    validation's figures as fractions of 1. `class_weights` is what an image of each class counts in the loss, 1 where
    left out.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        execution: Execution,
        *,
        classes: int,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.network = network
        self.recipe = recipe
        self.execution = execution
        self.train_metrics: dict[str, Tensor] = {}
        self.val_metrics: dict[str, float] = {}
        assert recipe.steps is not None
        self.head_steps = head_steps(recipe, recipe.steps)
        self._val_loss = MeanMetric()
        self._val_top1 = MulticlassAccuracy(classes, average="micro")
        self._val_top5 = MulticlassAccuracy(classes, average="micro", top_k=min(5, classes))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch: cross-entropy with label smoothing, shared between two labels where images were mixed."""
        torch.manual_seed(_mixed_seed(self.recipe.seed, batch_idx, self.global_rank))
        head_only = batch_idx < self.head_steps * self.recipe.optimization.accumulate
        loss, logits = training_loss(
            self.network,
            batch,
            self.execution,
            self.recipe.label_smoothing,
            head_only=head_only,
            class_weights=self.class_weights,
        )
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        # Over all processes before it is judged: they have to stop together.
        loss_of_all, accuracy_of_all = mean(torch.stack([loss.detach(), accuracy]))
        if not torch.isfinite(loss_of_all):
            raise NonFiniteLoss(self._non_finite_message(loss_of_all.item()))
        self.train_metrics = {"train_loss": loss_of_all, "train_accuracy": accuracy_of_all}
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add one batch to the validation's figures."""
        images, labels = batch
        with self.execution.autocast():
            logits = self.network(images).float()
        self._val_loss.update(functional.cross_entropy(logits, labels), len(labels))
        self._val_top1.update(logits, labels)
        self._val_top5.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Finish the validation's figures."""
        metrics = (self._val_loss, self._val_top1, self._val_top5)
        self.val_metrics = {
            name: float(metric.compute()) for name, metric in zip(VALIDATION_METRICS, metrics, strict=True)
        }
        for metric in metrics:
            metric.reset()

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule by the recipe."""
        assert self.recipe.steps is not None
        optimizer = make_optimizer(self.network, self.recipe.optimization, products=self.execution.precision)
        schedule = make_schedule(
            optimizer, self.recipe.optimization, self.recipe.steps, head_steps=self.head_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _non_finite_message(self, loss: float) -> str:
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        return f"the loss became {loss} at step {self.global_step + 1} (learning rate {lr:.3g})"


def training_loss(
    network: nn.Module,
    batch: Batch,
    execution: Execution,
    label_smoothing: float,
    *,
    head_only: bool = False,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Loss and logits of one batch, in float32 at least; with `head_only` the classifier alone gets a gradient.

    `class_weights`, one number a class, are what the loss of an image is multiplied by, label by label of a mixed one.
    """
    forward = classifier_logits if head_only else training_logits
    with execution.autocast():
        logits = forward(network, batch.images)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = _cross_entropy(logits, batch.labels, label_smoothing, class_weights)
    if batch.share < 1:
        other = _cross_entropy(logits, batch.other_labels, label_smoothing, class_weights)
        loss = batch.share * loss + (1 - batch.share) * other
    return loss, logits


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    # Not torch's own weights: its mean is over the weights of a batch, of which two processes would have two.
    losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    return (losses * class_weights[labels]).mean()


def _mixed_seed(seed: int, step: int, rank: int) -> int:
    """One seed for dropout from three numbers; neighbouring steps and ranks share nothing."""
    return (seed * 1_000_003 + step * 8_191 + rank * 127 + 17) % 2**63
