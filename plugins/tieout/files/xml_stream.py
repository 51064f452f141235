"""Large XML with flat memory: the children of a few named elements, each as JSON once it is whole.

Expat, with what no bank message needs refused the moment it begins: a document type declaration (and with it every
entity and every XML bomb), nesting without end, an element or a tag without end, text between elements. Elements are
known by their local name, so that prefixes and versions do not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from xml.parsers import expat

from tieout.files.proof import Rejected

CHUNK_BYTES = 1 << 16
DEPTH_LIMIT = 64  # the schemas nest about 15 deep
ELEMENT_LIMIT = 16 << 20  # bytes; an entry with all its details, held in memory
TAG_LIMIT = 1 << 20  # bytes of one tag with its attributes
NAMES_LIMIT = 2000  # the schemas have some hundreds; the parser remembers each that it meets

Json = dict[str, Any] | str


class Kind(Enum):
    """What happened in the file: a container began, got a whole child, or ended."""

    OPENED = "opened"
    CHILD = "child"
    CLOSED = "closed"


class Step(NamedTuple):
    """One thing that happened: the line it begins on, the local name, a child's value or a container's namespace.

    A child's value is the text of an element without attributes and children, or else an object of its children by
    local name (a list where one comes several times), with attributes as ``@name`` and its text as ``#text``.
    """

    kind: Kind
    line: int
    name: str
    value: Json = ""


def walk(path: Path, containers: Collection[str], kept: Collection[str]) -> Iterator[Step]:
    """The steps of a file; of a container's children only those whose names are ``kept``.

    :raises Rejected: it is no well-formed XML, or has what is refused here; a step that was given stays true.
    """
    walker = _Walker(containers, kept)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield from walker.feed(chunk)
        yield from walker.feed(b"", last=True)


class _Walker:
    def __init__(self, containers: Collection[str], kept: Collection[str]) -> None:
        self._containers = containers
        self._kept = kept
        self._steps: list[Step] = []
        self._depth = 0
        self._container_depth = 0  # 0 outside a container
        self._text = ""
        self._nodes: list[dict[str, Any]] = []  # the kept child that is open, and what is open in it
        self._began = 0  # line of that child
        self._names: dict[str, str] = {}
        self._fed = 0
        self._held_from = 0  # byte from which on something is held
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._document_type
        self._parser.StartNamespaceDeclHandler = self._namespace
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def feed(self, chunk: bytes, last: bool = False) -> list[Step]:
        """The steps that were completed by these bytes."""
        self._steps = []
        self._fed += len(chunk)
        try:
            self._parser.Parse(chunk, last)
        except expat.ExpatError as error:
            raise Rejected("not well-formed XML", line=error.lineno, found=expat.ErrorString(error.code)) from None
        except (LookupError, ValueError) as error:
            raise Rejected(
                "XML in an encoding that is not read", line=1, expected="UTF-8, UTF-16 or one byte a character",
                found=str(error),
            ) from None  # fmt: skip
        line = self._parser.CurrentLineNumber
        if self._fed - self._parser.CurrentByteIndex > TAG_LIMIT:
            raise Rejected("endless tag", line=line, expected=f"tags below {TAG_LIMIT} bytes")
        if self._container_depth and self._fed - self._held_from > ELEMENT_LIMIT:
            raise Rejected(
                "an element too large", line=self._began or line,
                expected=f"at most {ELEMENT_LIMIT} bytes for an entry with its details",
            )  # fmt: skip
        return self._steps

    def _document_type(self, name: str, *_: object) -> None:
        raise Rejected(
            "document type declaration", line=self._line, expected="XML without <!DOCTYPE",
            found=f"<!DOCTYPE {name}",
        )  # fmt: skip

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise Rejected("nested too deep", line=self._line, expected=f"at most {DEPTH_LIMIT} levels")
        node = {f"@{self._named(name)}": value for name, value in attributes.items()} if attributes else {}
        if not self._nodes and not self._begins_child(qualified):
            return
        if self._text:
            self._refuse_text()
        self._nodes.append(node)

    def _begins_child(self, qualified: str) -> bool:
        """Whether the element outside any kept child begins one; a container that begins is noted."""
        name = self._named(qualified)
        if self._container_depth:
            kept = self._depth == self._container_depth + 1 and name in self._kept
            self._began = self._line if kept else 0
            return kept
        if name in self._containers:
            self._container_depth = self._depth
            self._held_from = self._parser.CurrentByteIndex
            self._steps.append(Step(Kind.OPENED, self._line, name, qualified.rpartition(" ")[0]))
        return False

    def _characters(self, text: str) -> None:
        # White space between elements is most of what comes, and says nothing.
        if self._nodes and (self._text or not text.isspace()):
            self._text += text

    def _end(self, qualified: str) -> None:
        self._depth -= 1
        if not self._nodes:
            if self._depth < self._container_depth:
                self._container_depth = 0
                self._steps.append(Step(Kind.CLOSED, self._line, self._named(qualified)))
            return
        node, text = self._nodes.pop(), self._text
        value: Json = node
        if text:
            self._text = ""
            text = text.strip()
            if not node:
                value = text
            elif all(name[0] == "@" for name in node):
                node["#text"] = text
            else:
                self._refuse_text()
        elif not node:
            value = ""
        name = self._named(qualified)
        if not self._nodes:
            self._steps.append(Step(Kind.CHILD, self._began, name, value))
            self._held_from = self._parser.CurrentByteIndex
            return
        parent = self._nodes[-1]
        if name not in parent:
            parent[name] = value
        elif isinstance(known := parent[name], list):
            known.append(value)
        else:
            parent[name] = [known, value]

    def _refuse_text(self) -> NoReturn:
        raise Rejected("text between elements", line=self._line, expected="text in elements without others in them")

    def _named(self, qualified: str) -> str:
        name = self._names.get(qualified)
        if name is None:
            if len(self._names) == NAMES_LIMIT:
                raise Rejected("more names than any message has", line=self._line, expected=f"at most {NAMES_LIMIT}")
            name = self._names[qualified] = qualified.rpartition(" ")[2]
        return name

    def _namespace(self, prefix: str | None, _: str) -> None:
        self._named(f"xmlns {prefix}")

    @property
    def _line(self) -> int:
        return self._parser.CurrentLineNumber

