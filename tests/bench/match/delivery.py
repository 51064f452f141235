"""What arrives: files with their rows, control totals taken from them, and planned faults dealt over the time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from tests.bench.match.events import Row


@dataclass(frozen=True)
class File:
    """One delivered file: rows by raw table, in order."""

    name: str
    origin: str
    origin_account: str | None
    content_date: date
    tables: dict[str, list[Row]]


def row_key(*parts: object) -> str:
    """What every version of a row has in common: md5 of the parts, nothing for null."""
    return hashlib.md5("|".join("" if part is None else str(part) for part in parts).encode()).hexdigest()


class Deck:
    """Planned faults of a kind of thing, dealt evenly over the time in which they can happen."""

    def __init__(self, rng: random.Random, faults: Mapping[str, int]) -> None:
        self.rng = rng
        self.cards = [fault for fault, count in faults.items() for _ in range(count)]
        rng.shuffle(self.cards)

    def deal(
        self, close: int, closes: int, things: float, fits: Callable[[str], bool] = lambda fault: True
    ) -> str:
        """The fault of one of ``things`` that happen at this close; nothing for most.

        The last third of the closes is left for what faults lead to.

        :param fits: whether a fault can happen to this one.
        """
        room = max(closes * 2 // 3 - close, 0) * things
        if self.cards and room and self.rng.random() < min(1.0, 2 * len(self.cards) / room):
            card = next((card for card in reversed(self.cards) if fits(card)), "")
            if card:
                self.cards.remove(card)
            return card
        return ""

    def put_back(self, fault: str) -> None:
        """A fault that could not happen here happens elsewhere."""
        self.cards.append(fault)


def totals(rows: Sequence[Row], amounts: Mapping[str, str]) -> dict[tuple[str, str], tuple[int, int]]:
    """(amount column, currency) -> (rows that carry it, sum of its minor units)."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        for amount, currency in amounts.items():
            if row.get(amount) is None:
                continue
            count, total = found.get((amount, row[currency]), (0, 0))
            found[amount, row[currency]] = (count + 1, total + row[amount])
    return found


def key_hash(rows: Sequence[Row], key: tuple[str, ...]) -> int:
    """Sum over the rows of the first 60 bits of md5 of the key, its parts joined by a bar."""
    return sum(
        int(hashlib.md5("|".join(str(row[column]) for column in key).encode()).hexdigest()[:15], 16) for row in rows
    )
