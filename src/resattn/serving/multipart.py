"""Forms that carry files (multipart/form-data, RFC 7578), taken apart in memory: nothing is written to the disk."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from resattn.serving.refusals import Refusal

_FORM = "multipart/form-data"
_OTHER_FIELDS = 8
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Upload:
    """One image file as it came: its bytes, and its name where a form gave one."""

    name: str | None
    data: bytes


@dataclass
class _Parts:
    """What the parser reports: head and bytes of each part, in order. Raises Refusal 413 for more than `most` parts."""

    most: int
    heads: list[dict[bytes, bytes]] = field(default_factory=list)
    bodies: list[bytearray] = field(default_factory=list)
    name: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def begin(self) -> None:
        if len(self.heads) >= self.most:
            raise Refusal(413, f"the form has more than {self.most} parts", "send fewer images at a time")
        self.heads.append({})
        self.bodies.append(bytearray())

    def add_name(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def end_header(self) -> None:
        self.heads[-1][bytes(self.name).lower()] = bytes(self.value)
        self.name.clear()
        self.value.clear()

    def add_data(self, data: bytes, start: int, end: int) -> None:
        self.bodies[-1] += memoryview(data)[start:end]

    def end(self) -> None:
        self.ended = True


def boundary_of(content_type: str) -> bytes | None:
    """What separates the parts of a form; None for another content type. Raises Refusal 422 for a form without one."""
    kind, options = parse_options_header(content_type)
    if kind.decode("latin-1").lower() != _FORM:
        return None
    if not options.get(b"boundary"):
        raise Refusal(422, "the form does not say what separates its parts", "name the boundary")
    return options[b"boundary"]


def files_of(body: bytes, boundary: bytes, *, field: str, most: int) -> list[Upload]:
    """The files of a form in the field `field`, in order, at least one; other fields are passed over.

    Raises Refusal: 413 for more than `most`, 422 for none, or a form that is damaged or cut short.
    """
    parts = _Parts(most + _OTHER_FIELDS)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.add_name,
                "on_header_value": parts.add_value,
                "on_header_end": parts.end_header,
                "on_part_data": parts.add_data,
                "on_end": parts.end,
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise Refusal(422, f"the form is damaged ({error})", "send it as browsers and curl -F do") from error
    if not parts.ended:
        raise Refusal(422, "the form is cut short", "send all of it")
    files = []
    for head, data in zip(parts.heads, parts.bodies, strict=True):
        _, options = parse_options_header(head.get(b"content-disposition", b"").decode("latin-1"))
        if options.get(b"name") == field.encode():
            files.append(Upload(_file_name(options.get(b"filename")), bytes(data)))
    if not files:
        raise Refusal(422, f"the form has no file in the field {field!r}", f"curl -F {field}=@photo.jpg")
    if len(files) > most:
        raise Refusal(413, f"the form has {len(files)} images, and {most} are the limit", "send fewer")
    return files


def _file_name(sent: bytes | None) -> str | None:
    """The last part of what a client calls its file, for people to read: it never becomes a path."""
    if not sent:
        return None
    text = sent.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST_NAME] or None
