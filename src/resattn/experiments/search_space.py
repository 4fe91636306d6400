"""What a study searches: fields of a recipe, each with the values it may take, read from text and checked."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resattn.errors import ResattnError
from resattn.training.recipe import RUN_LENGTHS, Recipe

Value = bool | int | float | str | None
LIST = re.compile(r"\d+(\+\d+)+")
HOW = "write FIELD=a,b,c or FIELD=lo:hi or FIELD=int:lo:hi or FIELD=log:lo:hi"


@dataclass(frozen=True)
class Choices:
    """A field takes one of these."""

    values: tuple[Value, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Range:
    """A field takes a number between two, both included; evenly spread, on a logarithmic scale where `log`."""

    low: float
    high: float
    whole: bool = False
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class SearchSpace:
    """A recipe, and by dotted name the fields of it that vary; `specs` are the texts they were read from."""

    base: Recipe
    domains: Mapping[str, Choices | Range]
    specs: Mapping[str, str]

    def recipe(self, values: Mapping[str, Value]) -> Recipe:
        """The recipe with these values in place; ResattnError where they do not fit together."""
        return replaced(self.base, values, "the recipe of this trial")

    @property
    def example(self) -> Recipe:
        """The recipe with the first of its choices in each field that has some; its data are searched where any are."""
        domains = self.domains.items()
        return self.recipe({field: its.values[0] for field, its in domains if isinstance(its, Choices)})

    @property
    def own(self) -> dict[str, Value]:
        """What the recipe itself has in the fields that vary; those are left out whose domain does not hold it."""
        whole = dataclasses.asdict(self.base)
        values = {field: _get(whole, field) for field in self.domains}
        # Nor does a length that the recipe leaves to another one: with it in place the recipe would be another.
        return {
            field: value
            for field, value in values.items()
            if value in self.domains[field] and self.recipe({field: value}) == self.base
        }

    def corners(self) -> list[Recipe]:
        """The recipe with one field at a time at each of its choices, or at the ends of its range."""
        return [
            self.recipe({field: value})
            for field, domain in self.domains.items()
            for value in (domain.values if isinstance(domain, Choices) else _ends(domain))
        ]


def parse_search(texts: Iterable[str], base: Recipe) -> SearchSpace:
    """Read "FIELD=SPEC" texts, where SPEC is `a,b,c`, `lo:hi`, `int:lo:hi` or `log:lo:hi`.

    Values are those the fields of `base` take; `null` stands for none, 1+2 for a list of whole numbers (options of a
    model), and dashes in a field's name for underscores.
    Raises ResattnError, naming the text, for a field that is not there, a value it does not take and a range that
    is none.
    """
    domains: dict[str, Choices | Range] = {}
    specs: dict[str, str] = {}
    for text in texts:
        name, equals, spec = (part.strip() for part in text.partition("="))
        if not (name and equals and spec):
            raise ResattnError(f"--search {text}: there is no field, or no values", HOW)
        field = name.replace("-", "_")
        if field in domains:
            raise ResattnError(
                f"--search {text}: {field} is searched twice", "join the two into one --search"
            )
        domains[field] = _domain(_Field(field, base, f"--search {text}"), spec)
        specs[field] = spec
    if not domains:
        raise ResattnError("there is nothing to search", f"give --search once or more: {HOW}")
    return SearchSpace(base, domains, specs)


def parse_field(text: str, base: Recipe, *, source: str) -> tuple[str, Value]:
    """Read "FIELD=VALUE": the field's dotted name, and the value as the fields of `base` take it.

    Raises ResattnError, naming `source`, for a field that is not there and a value it does not take.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise ResattnError(f"{source}: there is no field, or no value", "write FIELD=VALUE")
    field = name.replace("-", "_")
    return field, _choice(_Field(field, base, source), value)


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """What fields are called where there is little room: by the last part of their name, where only one has it."""
    fields = list(fields)
    last = [field.rpartition(".")[2] for field in fields]
    return {
        field: short if last.count(short) == 1 else field for field, short in zip(fields, last, strict=True)
    }


def shown(value: Value) -> str:
    """A value as YAML would have it, with four digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def in_words(values: Mapping[str, Value]) -> str:
    """Values with short names, on one line."""
    names = short_names(values)
    return ", ".join(f"{names[field]} {shown(value)}" for field, value in values.items())


@dataclass(frozen=True)
class _Field:
    """One field of a recipe, where it can be asked what it takes."""

    name: str
    base: Recipe
    source: str

    def check(self, value: Value) -> None:
        """ResattnError where the field does not take `value`."""
        replaced(self.base, {self.name: value}, self.source)

    def takes(self, value: Value) -> bool:
        try:
            self.check(value)
        except ResattnError:
            return False
        return True

    def refusal(self, what: str, mend: str) -> ResattnError:
        return ResattnError(f"{self.source}: {what}", mend)


def _domain(field: _Field, spec: str) -> Choices | Range:
    if field.name == "validate_on":
        raise field.refusal("tuning always validates on held-out images", "search another field")
    if field.name == "size":
        raise field.refusal("trials share one packed folder", "prepare it at each size, and search data")
    kind, colon, rest = spec.partition(":")
    if "," in spec and not (colon and kind in ("int", "log")):
        return Choices(_choices(field, spec.split(",")))
    if colon:
        return _range(field, kind, rest) if kind in ("int", "log") else _range(field, "", spec)
    field.check(_choice(field, spec))
    option = field.name.replace("_", "-")
    raise field.refusal("one value is nothing to search", f"{HOW}, or fix it: --{option} {spec}")


def _choices(field: _Field, texts: list[str]) -> tuple[Value, ...]:
    values = tuple(_choice(field, text.strip()) for text in texts)
    if len(set(values)) < len(values):
        raise field.refusal("a value stands there twice", "name each value once")
    return values


def _choice(field: _Field, text: str) -> Value:
    """The first reading of `text` that the field takes: null, true or false, a number, letters."""
    readings: list[Value] = []
    if text.lower() in ("null", "none"):
        readings.append(None)
    elif text.lower() in ("true", "false"):
        readings.append(text.lower() == "true")
    for number in (int, float):
        try:
            readings.append(number(text))
        except ValueError:
            continue
    readings.append(text)
    for value in readings:
        if field.takes(value):
            return value
    field.check(readings[0])
    raise AssertionError(f"{field.name} refused {text} and then took it")


def _range(field: _Field, kind: str, text: str) -> Range:
    how = f"write it like {field.name}={kind + ':' if kind else ''}LOW:HIGH"
    parts = text.split(":")
    if len(parts) != 2:
        raise field.refusal(f"a range has two ends, and {text} has {len(parts)}", how)
    read: Callable[[str], float] = int if kind == "int" else float
    try:
        low, high = (read(part) for part in parts)
    except ValueError as error:
        wanted = "whole numbers" if kind == "int" else "numbers"
        raise field.refusal(f"the ends of a range are {wanted}, and {text} is not", how) from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise field.refusal(
            f"there is nothing between {parts[0]} and {parts[1]}", f"{how}, the smaller first"
        )
    if kind == "log" and low <= 0:
        raise field.refusal(f"a logarithmic range lies above 0, and {parts[0]} does not", how)
    whole = kind == "int"
    if not whole and not field.takes(low) and low.is_integer() and field.takes(int(low)):
        if kind != "log" or not high.is_integer():
            raise field.refusal(f"{field.name} takes whole numbers", f"write it as {field.name}=int:{text}")
        whole = True
    domain = Range(low, high, whole=whole, log=kind == "log")
    for end in _ends(domain):
        field.check(end)
    return domain


def _ends(domain: Range) -> tuple[Value, Value]:
    return (int(domain.low), int(domain.high)) if domain.whole else (domain.low, domain.high)


def replaced(base: Recipe, values: Mapping[str, Value], source: str) -> Recipe:
    """`base` with fields replaced, by dotted name, and validated as a file would be; 1+2 is a list of a model's option.

    Raises ResattnError, naming `source` and the field, for fields that are not there and values they do not take.
    """
    fields = dataclasses.asdict(base)
    if any(name in RUN_LENGTHS for name in values):
        fields.update(dict.fromkeys(RUN_LENGTHS))
    for name, value in values.items():
        if isinstance(value, str) and name.startswith("model_options.") and LIST.fullmatch(value):
            _put(fields, name, [int(part) for part in value.split("+")], source)
        else:
            _put(fields, name, value, source)
    return Recipe.from_mapping(fields, source=source)


def _get(fields: Any, name: str) -> Value:
    """The value at a dotted name, a list as 1+2; None where there is none, as for an option of a model's default."""
    for part in name.split("."):
        fields = fields.get(part) if isinstance(fields, dict) else None
    return "+".join(map(str, fields)) if isinstance(fields, list | tuple) else fields


def _put(fields: dict[str, Any], name: str, value: Value | list[int], source: str) -> None:
    *groups, last = name.split(".")
    for depth, group in enumerate(groups):
        fields = fields.setdefault(group, {})
        if not isinstance(fields, dict):
            whole = ".".join(groups[: depth + 1])
            raise ResattnError(f"{source}: {whole} is no group of fields", f"name {whole} itself")
    if isinstance(fields.get(last), dict):
        inner = next(iter(fields[last]), "drop_rate")
        raise ResattnError(
            f"{source}: {name} is a group of fields", f"name one of them, such as {name}.{inner}"
        )
    fields[last] = value
