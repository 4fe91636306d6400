"""The recipe: everything that defines a run, validated, in one frozen value that goes to YAML and back."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from cyclopts import Parameter

from resattn.data.augmentation import Augmentation
from resattn.data.image_folder import LARGEST, SMALLEST
from resattn.errors import ResattnError
from resattn.training.yaml_fields import build, find_yaml, read_yaml

SHIPPED = Path(__file__).parent / "recipes"
OptionValue = float | int | str | bool | list[int]
# Three ways to say how long a run is; where one of them is chosen, the others have no say.
RUN_LENGTHS = ("time", "epochs", "steps")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How weights change."""

    optimizer: Annotated[Literal["sgd", "adamw", "muon"], Parameter(name=("optimizer", "--optimizer"))] = (
        "muon"
    )
    """SGD with Nesterov momentum, AdamW, or Muon for convolutions but the first and AdamW for the rest."""
    lr: Annotated[float, Parameter(name=("lr", "--lr"))] = 0.02
    """Peak learning rate."""
    momentum: float = 0.95
    """Momentum of SGD and Muon; beta 1 of AdamW."""
    beta2: float = 0.99
    """AdamW only: how much of the squared gradients' average a step keeps."""
    weight_decay: Annotated[float, Parameter(name=("weight-decay", "--weight-decay"))] = 0.05
    """Decoupled for AdamW and Muon, an L2 term for SGD; never on biases and normalisation."""
    rest_lr: float = 0.004
    """Muon only: learning rate of the parameters it leaves to AdamW."""
    muon_iterations: int = 5
    """Muon only: Newton-Schulz iterations; 3 cost less and leave the small directions of an update smaller."""
    schedule: Literal["linear", "cosine", "constant", "drops", "two-phase"] = "linear"
    """How the learning rate falls after warm-up; drops: to a tenth at 40 % of the run, and to a hundredth at 60 %;
    two-phase: to 3 % at 35 %."""
    warmup: float = 0.05
    """Share of the run over which the learning rate rises from zero."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    layer_decay: float = 1.0
    """Factor on the learning rate from the head down, once a stage, to the stem; 1 treats all alike."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that defines a run. Two runs of one recipe on the CPU of one machine end in the same weights, bit for bit."""

    data: str = "shapes"
    """Data set: shapes, tiny-imagenet, cifar10, cifar100, a name given to `prepare folder`, or folder:PATH."""
    size: int | None = None
    """Side in pixels at which a folder of images is packed; what the network was trained at or made for without it."""
    model: str = "resattn_mini"
    """Network: one of `resattn models`."""
    model_options: dict[str, OptionValue] = field(default_factory=dict)
    """Options of the network, each by its name, with underscores: --model-options.drop_rate 0.1."""
    start_from: Annotated[str | None, Parameter(name=("--from", "--start-from"))] = None
    """Weights to begin with: pretrained (those that ship for the model), a run folder, or a .safetensors file."""
    head_first: float = 0.0
    """Share of the run in which the classifier learns alone, before all the rest does."""
    seed: int = 0
    """Fixes initial weights, order and augmentation."""
    time: str | None = None
    """Training time, such as 20m or 1h30m: measured on this machine and turned into steps once. 10m without it, epochs
    and steps."""
    epochs: float | None = None
    """Passes over the training images; may be a fraction."""
    steps: int | None = None
    """Optimizer steps. Written into the run's recipe whichever of the three was given."""
    batch_size: int = 256
    """Images in a batch, over all devices."""
    optimization: Optimization = field(default_factory=Optimization)
    augmentation: Augmentation = field(default_factory=Augmentation)
    label_smoothing: float = 0.1
    """Share of the target spread over all classes."""
    label_noise: float = 0.0
    """Share of the training labels turned into another class on purpose, the same ones throughout the run."""
    class_weights: Literal["none", "balanced"] = "none"
    """What an image counts in the training loss: all alike, or less the more images its class has."""
    averaging: float = 0.03
    """Span of the weight average (EMA) as a share of the run; 0 evaluates the raw weights."""
    start_scale: float = 0.75
    """Side of the first training images as a share of the data's own; 1 switches growing off."""
    size_ramp: float = 0.7
    """Share of the run after which images have their full size."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the forward pass; auto takes what is faster here and writes it into the run's recipe."""
    validate_on: Literal["val", "held-out"] = "val"
    """val, or held-out: 5 % of the training images, which are then not trained on. To tune; val is for reports."""
    validations: int = 4
    """Validations in a run, evenly spaced, one every second step at most; the last is the final evaluation."""

    def __post_init__(self) -> None:
        # The command line reads every number as a fraction; a width of 32.0 is a width of 32.
        options = {name: _whole(value) for name, value in self.model_options.items()}
        object.__setattr__(self, "model_options", options)
        _check_ranges(self)

    def to_yaml(self) -> str:
        """The recipe as YAML, every field written out."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)

    @classmethod
    def from_yaml(cls, path: Path) -> "Recipe":
        """Read a recipe; fields it leaves out keep their defaults.

        Raises ResattnError naming the file and the field for unknown fields, wrong types and values out of range.
        """
        return cls.from_mapping(read_yaml(path, "recipe"), source=str(path))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str) -> "Recipe":
        """A recipe of the given fields, groups as mappings of their own; the others keep their defaults.

        Raises ResattnError as `from_yaml` does, naming `source` in place of a file.
        """
        return build(cls, values, source=source)

    def replace(self, **changes: Any) -> "Recipe":
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)


def parse_duration(text: str) -> float:
    """Seconds in "90s", "20m", "1h30m" or "2.5h"; ResattnError for anything else."""
    matched = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", text.strip())
    try:
        hours, minutes, seconds = (
            (float(part or 0) for part in matched.groups()) if matched else (0.0, 0.0, 0.0)
        )
    except ValueError:
        hours = minutes = seconds = 0.0
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise ResattnError(f"{text!r} is no duration", "write it like 90s, 20m or 1h30m")
    return total


def _whole(value: OptionValue) -> OptionValue:
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(value)
    return value


def find_recipe(name: str) -> Path:
    """The file behind a path or behind the name of a shipped recipe; ResattnError where there is neither."""
    return find_yaml(name, SHIPPED, "recipe")


def _check_choices(recipe: Recipe) -> None:
    """Raise ResattnError for a field whose value is none of those its type lists."""
    parts = (("", recipe), ("optimization.", recipe.optimization), ("augmentation.", recipe.augmentation))
    for prefix, part in parts:
        for name, hint in get_type_hints(type(part)).items():
            chosen = getattr(part, name)
            if get_origin(hint) is Literal and chosen not in get_args(hint):
                what = f"recipe field {prefix}{name} is {chosen!r}"
                raise ResattnError(what, f"{prefix}{name} is one of {', '.join(get_args(hint))}")


def _check_ranges(recipe: Recipe) -> None:
    optimization, augmentation = recipe.optimization, recipe.augmentation
    limits: dict[str, tuple[float | None, float, float]] = {
        "seed": (recipe.seed, 0, 2**31 - 1),
        "size": (recipe.size, SMALLEST, LARGEST),
        "epochs": (recipe.epochs, 1e-9, 1e6),
        "steps": (recipe.steps, 1, float("inf")),
        "batch_size": (recipe.batch_size, 1, 2**20),
        "label_smoothing": (recipe.label_smoothing, 0, 0.999),
        "label_noise": (recipe.label_noise, 0, 1),
        "averaging": (recipe.averaging, 0, 1),
        "start_scale": (recipe.start_scale, 0.05, 1),
        "size_ramp": (recipe.size_ramp, 0, 1),
        "head_first": (recipe.head_first, 0, 1),
        "validations": (recipe.validations, 1, 10_000),
        "optimization.lr": (optimization.lr, 1e-12, 1e3),
        "optimization.rest_lr": (optimization.rest_lr, 1e-12, 1e3),
        "optimization.muon_iterations": (optimization.muon_iterations, 1, 100),
        "optimization.momentum": (optimization.momentum, 0, 0.99999),
        "optimization.beta2": (optimization.beta2, 0, 0.99999),
        "optimization.weight_decay": (optimization.weight_decay, 0, 1e3),
        "optimization.warmup": (optimization.warmup, 0, 1),
        "optimization.clip": (optimization.clip, 0, float("inf")),
        "optimization.accumulate": (optimization.accumulate, 1, 2**16),
        "optimization.layer_decay": (optimization.layer_decay, 0.01, 1),
        "augmentation.shift": (augmentation.shift, 0, 2**12),
        "augmentation.crop": (augmentation.crop, 0.01, 1),
        "augmentation.mixup": (augmentation.mixup, 0, 100),
        "augmentation.cutmix": (augmentation.cutmix, 0, 100),
        "augmentation.mix_until": (augmentation.mix_until, 0, 1),
        "augmentation.erase": (augmentation.erase, 0, 1),
    }
    for name, (value, low, high) in limits.items():
        if value is not None and not low <= value <= high:
            raise ResattnError(f"recipe field {name} is {value}", f"{name} lies between {low:g} and {high:g}")
    _check_choices(recipe)
    if recipe.time is not None:
        parse_duration(recipe.time)
