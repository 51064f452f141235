"""Values of a YAML file with the place they stand at, so that whatever is wrong with one says where and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DeclarationError(ValueError):
    """A declaration that cannot be used; the message names its file, the place and the remedy."""


class Node:
    """A value of the YAML file with the place it stands at, for messages."""

    def __init__(self, file: str, place: str, value: Any) -> None:
        self.file, self.place, self.value = file, place, value

    def wrong(self, problem: str, remedy: str) -> DeclarationError:
        """The error to raise for this place."""
        return DeclarationError(f"{self.file}: {self.place or 'top'}: {problem}. Remedy: {remedy}.")

    def mapping(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Node]:
        """The keys of a mapping, each a node; all required ones there, none unknown."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"expected a mapping, found {self.value!r}", "write key: value pairs")
        unknown = sorted(str(key) for key in self.value if key not in (*required, *optional))
        if unknown:
            raise self.wrong(f"unknown key {unknown[0]}", f"use only {', '.join((*required, *optional))}")
        missing = [key for key in required if key not in self.value]
        if missing:
            raise self.wrong(f"{missing[0]} is missing", f"add {missing[0]}")
        return {key: Node(self.file, f"{self.place}.{key}".lstrip("."), value) for key, value in self.value.items()}

    def items(self) -> list[Node]:
        """The members of a list, each a node."""
        if not isinstance(self.value, list):
            raise self.wrong(f"expected a list, found {self.value!r}", "write a list")
        return [Node(self.file, f"{self.place}[{number}]", value) for number, value in enumerate(self.value)]

    def text(self) -> str:
        """A text that is not blank. Anything else (YAML reads ``no`` as false, ``1`` as a number) is refused."""
        if not isinstance(self.value, str) or not self.value:
            raise self.wrong(f"expected text, found {self.value!r}", "write text, in quotation marks if need be")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """A list of texts, without repetition; one text alone is a list of one."""
        found = (self.text(),) if isinstance(self.value, str) else tuple(node.text() for node in self.items())
        if len(set(found)) < len(found):
            raise self.wrong("a value stands twice", "name each once")
        return found

    def flag(self) -> bool:
        """True or false, as YAML writes them."""
        if isinstance(self.value, bool):
            return self.value
        raise self.wrong(f"found {self.value!r}", "write true or false")

    def choice(self, *choices: str) -> str:
        """One of the texts."""
        if self.value not in choices:
            raise self.wrong(f"found {self.value!r}", f"use one of {', '.join(choices)}")
        return str(self.value)
