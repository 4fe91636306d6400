"""The model card: what a released network is, how it was made, what it reaches, and what it may be used for."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import yaml

from resattn.evaluation.classification import ClassificationResult, ClassScore, Scores
from resattn.models.cost import multiply_accumulates, parameters
from resattn.models.network import ResidualAttentionNetwork
from resattn.models.registry import build_described

SHOWN_CLASSES = 10
_IMAGENET_TERMS = (
    "The training images are ImageNet's. Their owners allow them to be used for **non-commercial research and "
    "education only**, and they are not part of this release. Whether such terms reach weights that were trained on "
    "the images is not settled: whoever wants to use these weights commercially has to find out first."
)
_DATA_TERMS = {
    "tiny-imagenet": _IMAGENET_TERMS,
    "shapes": "The training images were drawn by this package and are under its licence.",
    "cifar10": "The training images are CIFAR's, published for research without a licence that says more.",
    "cifar100": "The training images are CIFAR's, published for research without a licence that says more.",
}
_OTHER_TERMS = "The training images are their owners', who decide what may be done with them."


@dataclass(frozen=True, eq=False)
class CardFacts:
    """All that a card says: `facts` is the content of the results file, `shipped` whether the package finds the weights
    under the network's own name."""

    name: str
    facts: dict[str, Any]
    result: ClassificationResult
    network: ResidualAttentionNetwork
    shipped: bool


def model_card(card: CardFacts) -> str:
    """The card as Markdown; every figure is that of the released file."""
    sections = (_head, _training, _figures, _classes, _use, _limits, _licence)
    return "\n\n".join(section(card) for section in sections) + "\n"


def _head(card: CardFacts) -> str:
    facts, network = card.facts, card.network
    size = facts["input_size"][-1]
    modules = network.attention_modules
    masks = [name for name, module in modules.items() if module.mask is not None]
    options = ", ".join(f"{name}={value}" for name, value in facts["options"].items()) or "none changed"
    return "\n".join(
        [
            f"# {card.name}",
            "",
            f"A residual attention network that sorts {size} x {size} pixel RGB images into {facts['classes']} "
            f"classes of {facts['data']}.",
            "",
            "| | |",
            "|---|---|",
            f"| architecture | `{facts['model']}` (options: {options}) |",
            *([_without_options(card)] if facts["options"] else []),
            f"| attention | {len(masks)} of {len(modules)} modules have a mask: {', '.join(masks) or 'none'} |",
            f"| parameters | {parameters(network):,} |",
            f"| multiply-accumulates of one image | {multiply_accumulates(network, size):,} |",
            f"| weights | `{facts['file']}`, {facts['stored_as']}, {facts['bytes']:,} bytes |",
            f"| SHA-256 | `{facts['sha256']}` |",
        ]
    )


def _without_options(card: CardFacts) -> str:
    """A row for whoever would take the name alone for the same network."""
    model, classes = card.facts["model"], card.facts["classes"]
    with torch.device("meta"):
        plain = build_described(model, num_classes=classes, options={})
    return f"| `{model}` without these options | another network, of {parameters(plain):,} parameters |"


def _training(card: CardFacts) -> str:
    facts = card.facts
    return "\n".join(
        [
            "## Training",
            "",
            "| | |",
            "|---|---|",
            f"| data | {facts['data']}, training split |",
            f"| training | {facts['steps']:,} steps, {facts['train_seconds'] / 60:.1f} minutes without validations |",
            *_origin(facts),
            *_went_on(facts),
            f"| seed | {facts['seed']} |",
            "",
            "The whole recipe (`resattn train --recipe FILE` takes it):",
            "",
            "```yaml",
            facts["recipe"].rstrip(),
            "```",
        ]
    )


def _origin(facts: Mapping[str, Any]) -> list[str]:
    """Rows of where and by what a training was computed."""
    machine, versions = facts["machine"], facts["versions"] or {}
    software = ", ".join(
        f"{name} {versions[name]}" for name in ("python", "torch", "resattn") if name in versions
    )
    place = machine["cpu"] if machine["device"] == "cpu" else f"{machine['device']}, {machine['cpu']}"
    return [
        f"| machine | {place}; {machine['threads']} threads; {machine['platform']} |",
        f"| software | {software} |",
        f"| commit | {facts['commit'] or 'not recorded'} |",
    ]


def _went_on(facts: Mapping[str, Any]) -> list[str]:
    """Of later sittings what the one before had otherwise."""
    sittings = [_origin(sitting) for sitting in (facts, *facts["sittings"])]
    return [
        f"| went on: {row.removeprefix('| ')}"
        for before, now in pairwise(sittings)
        for row in now
        if row not in before
    ]


def _figures(card: CardFacts) -> str:
    result = card.result
    lines = [
        f"## Accuracy on {result.data} {result.split}",
        "",
        f"{result.images:,} images, computed in {result.precision} with the released file. `resattn evaluate` "
        f"prints the same; the exact figures are in `{card.name}.json`.",
        "",
        "| view | top-1 | top-5 | loss | calibration error |",
        "|---|---|---|---|---|",
        _score_row("single view", result),
    ]
    if result.flip_average is not None:
        lines.append(_score_row("mean of image and mirror image", result.flip_average))
    return "\n".join(lines)


def _score_row(view: str, scores: Scores | ClassificationResult) -> str:
    return f"| {view} | {scores.top1:.2%} | {scores.top5:.2%} | {scores.loss:.4f} | {scores.ece:.2%} |"


def _classes(card: CardFacts) -> str:
    measured = [row for row in card.result.per_class if row.top1 is not None]
    # Sorted by id first, so that ties do not depend on chance.
    ranked = sorted(measured, key=lambda row: (-(row.top1 or 0), row.id))
    parts = ["### Classes"]
    if len(ranked) > 2 * SHOWN_CLASSES:
        parts += [f"The {SHOWN_CLASSES} best:", _class_table(ranked[:SHOWN_CLASSES])]
        parts += [f"The {SHOWN_CLASSES} worst, worst first:", _class_table(ranked[: -SHOWN_CLASSES - 1 : -1])]
    table = _class_table(list(card.result.per_class))
    return "\n\n".join([*parts, f"<details><summary>All classes</summary>\n\n{table}\n\n</details>"])


def _class_table(rows: list[ClassScore]) -> str:
    lines = ["| class | id | images | top-1 | top-5 |", "|---|---|---|---|---|"]
    for row in rows:
        shares = ["-" if share is None else f"{share:.1%}" for share in (row.top1, row.top5)]
        cells = [text.replace("|", r"\|") for text in (row.name, row.id)]
        lines.append(f"| {' | '.join([*cells, str(row.images), *shares])} |")
    return "\n".join(lines)


def _use(card: CardFacts) -> str:
    model, file = card.facts["model"], card.facts["file"]
    if card.shipped:
        command, load = "resattn predict photo.jpg", f'resattn.load("{model}")'
        timm = f'timm.create_model("{model}", pretrained=True, num_classes=10)'
    else:
        command, load = f"resattn predict {file} photo.jpg", f'resattn.load("{file}")'
        options = "".join(f"{name}={value!r}, " for name, value in card.facts["options"].items())
        overlay = f'{{"file": "{file}", "num_classes": {card.facts["classes"]}}}'
        timm = (
            f'timm.create_model("{model}", pretrained=True, num_classes=10, {options}'
            f"pretrained_cfg_overlay={overlay})"
        )
    return f"""## How to use it

```sh
{command}
```

```python
import resattn

network = {load}
print(resattn.Predictor(network).predict("photo.jpg")[0].descriptions)
```

```python
import resattn, timm  # resattn registers its networks with timm

network = {timm}  # a fresh head for 10 classes
```"""


def _limits(card: CardFacts) -> str:
    facts = card.facts
    size = facts["input_size"][-1]
    return f"""## Intended use and limits

Meant for study, teaching, comparison, and as a start for training on one's own images. It always answers with one of
its {facts["classes"]} classes, also for a picture of none of them. It saw {size} x {size} pixels of each image and
nothing finer. Its probabilities are off by the calibration error above. It inherits what its training images show and
leave out, of people too. It was not examined for fairness or against attacks, and is not meant for decisions about
people or for anything where a wrong answer does harm."""


def _licence(card: CardFacts) -> str:
    data = card.facts["data"]
    # tiny-imagenet-32 and the like are the same images.
    terms = [_DATA_TERMS.get("tiny-imagenet" if data.startswith("tiny-imagenet-") else data, _OTHER_TERMS)]
    if start := yaml.safe_load(card.facts["recipe"]).get("start_from"):
        terms.append(
            f"Training began with the weights of {start}: what holds for those holds for these, too."
        )
        if start == "pretrained":
            terms.append(
                "They ship with resattn and were trained on ImageNet's images, which their owners allow to be used for "
                "**non-commercial research and education only**."
            )
    return f"## Licence\n\nThe code is under Apache-2.0. {' '.join(terms)}"
