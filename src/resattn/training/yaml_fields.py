"""YAML files of others into frozen dataclasses: nothing but plain values, each field checked against its type."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from resattn.errors import ResattnError
from resattn.files import is_file

LARGEST_FILE = 2**20
Fields = typing.TypeVar("Fields")


class _PlainLoader(yaml.SafeLoader):
    """YAML's own values; no aliases, with which a few lines could stand for billions of values, nor a name twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        for number, name in enumerate(names):
            if name in names[:number]:
                mark = node.value[number][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"{name} stands there twice", mark)
        return super().construct_mapping(node, deep)


def find_yaml(name: str, shipped: Path, kind: str) -> Path:
    """The file behind a path, or behind the name of one in the folder `shipped`; ResattnError naming the `kind`."""
    if is_file(name):
        return Path(name)
    known = {path.stem: path for path in sorted(shipped.glob("*.yaml"))}
    if name in known:
        return known[name]
    raise ResattnError(f"there is no {kind} {name}", f"name a YAML file, or one of: {', '.join(known)}")


def read_yaml(path: Path, kind: str) -> dict[str, Any]:
    """The fields a file sets, unchecked; ResattnError naming the `kind` of file where it is no YAML mapping."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise ResattnError(
                f"{kind} {path} is larger than {LARGEST_FILE // 1024:,} KiB",
                f"name a {kind}, which is a short text",
            )
        # The reader may raise more than YAMLError: ValueError for dates and numbers that are none, and for bytes.
        content = yaml.load(text.decode("utf-8"), Loader=_PlainLoader)
    except OSError as error:
        raise ResattnError(f"{kind} {path} cannot be read: {error.strerror}", "check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        mend = "mend the file" + (", or start from a run's recipe.yaml" if kind == "recipe" else "")
        raise ResattnError(f"{kind} {path} is no valid YAML: {error}", mend) from error
    if not isinstance(content, dict):
        example = "model: resattn_mini" if kind == "recipe" else "control: plain"
        raise ResattnError(f"{kind} {path} holds no fields", f"write one field a line, such as `{example}`")
    return content


def build(kind: type[Fields], values: Mapping[str, Any], *, source: str) -> Fields:
    """A dataclass from what a YAML file says, each value checked against the field's type.

    Raises ResattnError naming `source` and the field for unknown fields, fields that are missing and wrong types.
    """
    return typing.cast(Fields, _build(kind, values, source, ""))


def _build(kind: type, values: Mapping[str, Any], source: str, prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            close = difflib.get_close_matches(str(name), hints, n=1)
            guess = f"did you mean {prefix}{close[0]}?" if close else f"fields are {', '.join(hints)}"
            raise ResattnError(f"{source}: unknown field {prefix}{name}", guess)
        arguments[name] = _convert(hints[name], value, source, prefix + name)
    for missing in dataclasses.fields(kind):
        required = missing.default is missing.default_factory is dataclasses.MISSING
        if required and missing.name not in arguments:
            raise ResattnError(
                f"{source}: {prefix}{missing.name} is missing", f"write a line `{missing.name}: ...`"
            )
    try:
        return kind(**arguments)
    except ResattnError as error:
        raise ResattnError(f"{source}: {error.what}", error.mend) from error


def _convert(hint: Any, value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, dict):
            return _build(hint, value, source, f"{name}.")
        raise ResattnError(
            f"{source}: {name} is {value!r}, not a group of fields", f"indent its fields under `{name}:`"
        )
    if not _fits(hint, value):
        raise ResattnError(f"{source}: {name} is {value!r}", f"{name} takes {_describe(hint)}")
    if isinstance(value, int | float) and float in _alternatives(hint) and int not in _alternatives(hint):
        return float(value)  # numpy's, which are Python's by inheritance, cannot be written as YAML
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if isinstance(hint, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _fits(hint: Any, value: Any) -> bool:
    for option in _alternatives(hint):
        if typing.get_origin(option) is Literal:
            fits = value in typing.get_args(option)
        elif typing.get_origin(option) is dict:
            fits = isinstance(value, dict) and all(
                isinstance(key, str) and (typing.get_args(option)[1] is Any or is_option_value(entry))
                for key, entry in value.items()
            )
        elif option is float:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            fits = isinstance(value, option) and (option is bool or not isinstance(value, bool))
        if fits:
            return True
    return False


def is_option_value(entry: object) -> bool:
    """Whether a recipe can hold it as an option of the network; `isinstance` cannot ask for list[int]."""
    if isinstance(entry, list):
        return all(isinstance(each, int) and not isinstance(each, bool) for each in entry)
    return isinstance(entry, bool | int | float | str)


def _describe(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        types.NoneType: "null",
    }
    words = []
    for option in _alternatives(hint):
        if typing.get_origin(option) is Literal:
            words.append("one of " + ", ".join(map(str, typing.get_args(option))))
        else:
            words.append(names.get(option, "a mapping of names to values"))
    return " or ".join(words)
