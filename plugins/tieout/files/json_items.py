"""JSON reports: objects one after another or in a list, every number kept as the text that stands in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from tieout.files.lines import whole_bytes
from tieout.files.proof import Rejected, amount

JsonObject = dict[str, Any]

FILE_LIMIT = 32 << 20  # bytes; objects in memory take many times as much
DEPTH_LIMIT = 50
BLANKS = re.compile(r"[ \t\r\n]*")
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def load(path: Path) -> list[JsonObject]:
    """The objects of a file: of one list, or one after another (one object is a list of one).

    Numbers are texts, so that none passes through a float.

    :raises Rejected: it is too large, not UTF-8, not JSON, has a key twice in an object, or something but objects.
    """
    try:
        text = whole_bytes(path, FILE_LIMIT).decode("utf-8-sig").rstrip()
    except UnicodeDecodeError as error:
        found = repr(error.object[error.start : error.end])
        raise Rejected("not UTF-8", expected="UTF-8 text", found=found) from None
    values = list(_values(text))
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise Rejected("not an object", line=number, expected="a JSON object for each item", found=repr(value)[:60])
        _refuse_unstorable(value, number)
    return values


def _values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique, parse_float=str, parse_int=str, parse_constant=_refuse_constant
    )
    at = 0
    while at < len(text):
        begins = BLANKS.match(text, at)
        try:
            value, at = decoder.raw_decode(text, begins.end() if begins else at)
        except json.JSONDecodeError as error:
            raise Rejected("broken JSON", line=error.lineno, found=error.msg) from None
        except RecursionError:
            raise Rejected("nested too deep", expected=f"at most {DEPTH_LIMIT} levels") from None
        yield value


def _refuse_unstorable(value: Any, number: int) -> None:
    """Refuse what no database takes: NUL and half characters, and nesting that no report has."""
    waiting = [(value, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > DEPTH_LIMIT:
            raise Rejected("nested too deep", line=number, expected=f"at most {DEPTH_LIMIT} levels")
        if isinstance(node, dict):
            waiting += [(each, depth + 1) for pair in node.items() for each in pair]
        elif isinstance(node, list):
            waiting += [(each, depth + 1) for each in node]
        elif isinstance(node, str) and UNSTORABLE.search(node):
            raise Rejected("NUL or half a character in text", line=number, expected="whole characters", found=node)


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Rejected("a key twice in one object", column=twice, expected="each key once")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Rejected("not a number", expected="a plain decimal number", found=name)


class Item:
    """One object of a report with its number in the file, and its values by dotted path."""

    def __init__(self, value: JsonObject, number: int) -> None:
        self.value = value
        self.number = number

    def get(self, path: str) -> Any:
        """The value at a path such as ``amount.value``; None where there is none."""
        node: Any = self.value
        for key in path.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def text(self, path: str) -> str | None:
        """A text that may be missing.

        :raises Rejected: there is something else.
        """
        value = self.get(path)
        if value is not None and not isinstance(value, str):
            raise Rejected("not a text", line=self.number, column=path, expected="text", found=repr(value)[:60])
        return value or None

    def needed(self, path: str) -> str:
        """A text that must be there.

        :raises Rejected: it is missing.
        """
        value = self.text(path)
        if value is None:
            raise Rejected("value missing", line=self.number, column=path)
        return value

    def money(self, path: str, value: str, currency: str) -> tuple[int, str]:
        """Minor units and currency of an object with ``value`` and ``currency`` under these names.

        :raises Rejected: it is not an exact amount.
        """
        code = self.needed(f"{path}.{currency}")
        return amount(self.needed(f"{path}.{value}"), code, self.number, f"{path}.{value}"), code

    def instant(self, path: str) -> datetime:
        """A time with its offset, in UTC.

        :raises Rejected: it is written otherwise, or names no offset.
        """
        text = self.needed(path)
        try:
            found = datetime.fromisoformat(text) if text.isascii() else None
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            raise Rejected(
                "not a time with an offset",
                line=self.number,
                column=path,
                expected="YYYY-MM-DDTHH:MM:SS and an offset or Z",
                found=text,
            )
        return found.astimezone(UTC)


def numbered(values: list[JsonObject]) -> Iterator[Item]:
    """The objects with their numbers, from 1."""
    return (Item(value, number) for number, value in enumerate(values, 1))


def begins_with_json(head: str) -> bool:
    """Whether a text begins as JSON does."""
    return head.lstrip("\ufeff \t\r\n")[:1] in ("[", "{")
