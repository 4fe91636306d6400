"""What the networks are.

`create_model(name, num_classes=...)` builds any of `list_variants()`; importing this package registers them
all with timm. Every one is a `ResidualAttentionNetwork`: `network(images)` gives logits,
`network.forward_with_masks(images)` an `Output` of logits and masks. `cost` counts parameters and
multiply-accumulates, `weights` saves and loads.

To add an architecture: write a file of variants like `variants_compact`, and import it here.
"""

# The order of these imports is the order of `list_variants`.
# isort: off
from resattn.models import variants_imagenet as variants_imagenet
from resattn.models import variants_cifar as variants_cifar
from resattn.models import seed_study as seed_study
from resattn.models import variants_compact as variants_compact

# isort: on
from resattn.models.network import Output, ResidualAttentionNetwork
from resattn.models.registry import create_model, list_variants

__all__ = [
    "Output",
    "ResidualAttentionNetwork",
    "create_model",
    "list_variants",
]
