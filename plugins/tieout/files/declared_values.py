"""Values of a declared row: texts and amounts, and the columns, constants and facts that they are taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tieout import money
from tieout.files.yaml_node import Node


class Rows(Protocol):
    """Rows of one kind: what they are called, and the columns that may be named."""

    @property
    def name(self) -> str:
        """What they are called."""

    @property
    def known(self) -> frozenset[str]:
        """Their columns."""


@dataclass(frozen=True)
class Text:
    """A value of a line: the first column that is not blank, a constant, a fact, or (else) the day of ``booked_at``."""

    columns: tuple[str, ...] = ()
    blank: frozenset[str] = frozenset()
    constant: str | None = None
    fact: str | None = None
    day: bool = False


@dataclass(frozen=True)
class Amount:
    """Columns to add and to take off; ``sign`` turns an unsigned sum by what another column says.

    ``optional`` amounts may be blank: a fee is then 0, gross or net follows from the others.
    """

    plus: tuple[str, ...]
    minus: tuple[str, ...]
    currency: Text | None
    sign_column: str | None
    signs: Mapping[str, int]
    optional: bool


def text_of(node: Node, rows: Rows) -> Text:
    """A value of a line, as a node says where it comes from.

    :raises DeclarationError: it is not one that these rows can have.
    """
    if not isinstance(node.value, dict):
        return Text(columns=columns_of(node, rows))
    keys = node.mapping((), ("columns", "blank", "constant", "fact", "day"))
    sources = [key for key in keys if key != "blank"]
    if len(sources) != 1 and sources != ["columns", "day"]:
        raise node.wrong(f"{len(sources)} sources of one value", "give one of columns, constant, fact and day")
    if "day" in keys:
        keys["day"].choice("booked_at")
    return Text(
        columns=columns_of(keys["columns"], rows) if "columns" in keys else (),
        blank=frozenset(keys["blank"].texts()) if "blank" in keys else frozenset(),
        constant=keys["constant"].text() if "constant" in keys else None,
        fact=keys["fact"].text() if "fact" in keys else None,
        day="day" in keys,
    )


def amount_of(node: Node, rows: Rows) -> Amount:
    """An amount of a line, as a node says what it is made of.

    :raises DeclarationError: it is not one that these rows can have.
    """
    keys = node.mapping((), ("plus", "minus", "currency", "sign", "optional"))
    plus = columns_of(keys["plus"], rows) if "plus" in keys else ()
    minus = columns_of(keys["minus"], rows) if "minus" in keys else ()
    if not plus and not minus:
        raise node.wrong("no columns", "name those to add under plus and those to take off under minus")
    sign_column, signs = None, {}
    if "sign" in keys:
        sign = keys["sign"].mapping(("column", "credit", "debit"))
        sign_column = column_of(sign["column"], rows)
        signs = dict.fromkeys(sign["credit"].texts(), 1) | dict.fromkeys(sign["debit"].texts(), -1)
    currency = text_of(keys["currency"], rows) if "currency" in keys else None
    if currency and currency.constant:
        try:
            money.exponent(currency.constant)
        except money.AmountError as error:
            raise keys["currency"].wrong(str(error), "write a currency code such as EUR") from None
    return Amount(
        plus=plus,
        minus=minus,
        currency=currency,
        sign_column=sign_column,
        signs=signs,
        optional=keys["optional"].flag() if "optional" in keys else False,
    )


def columns_of(node: Node, rows: Rows) -> tuple[str, ...]:
    """Columns that a node names.

    :raises DeclarationError: it is not one that these rows can have.
    """
    names = node.texts()
    for name in names:
        if name not in rows.known:
            raise node.wrong(f"no column {name}", f"use a column that section {rows.name} names")
    return names


def column_of(node: Node, rows: Rows) -> str:
    """The one column that a node names.

    :raises DeclarationError: it is not one that these rows can have.
    """
    node.text()
    return columns_of(node, rows)[0]
