"""What the sandbox's world remembers between days: small sums and counters, never items."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from tieout.sandbox.market import ACCOUNTS, BANK_ACCOUNTS


@dataclass(slots=True)
class BatchState:
    """A settlement batch that still fills: its lines and, by net currency, credits, debits and fees (minor units)."""

    lines: int = 0
    totals: dict[str, list[int]] = field(default_factory=dict)

    def add(self, net_minor: int, fee_minor: int, currency: str) -> None:
        """Take one line in."""
        sums = self.totals.setdefault(currency, [0, 0, 0, 0])
        gross_minor = net_minor + fee_minor
        sums[0 if gross_minor >= 0 else 1] += abs(gross_minor)
        sums[2 if fee_minor < 0 else 3] += abs(fee_minor)
        self.lines += 1

    def net_minor(self, currency: str) -> int:
        """What the batch pays out in ``currency``."""
        credit, debit, fee_credit, fee_debit = self.totals.get(currency, [0, 0, 0, 0])
        return credit - debit + fee_credit - fee_debit


@dataclass(slots=True)
class BankState:
    """A bank account: balance, number of its last statement, entries that are on their way (by ISO date)."""

    balance_minor: int
    statement_number: int
    pending: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(slots=True)
class WorldState:
    """Everything a later process needs to play the next day."""

    seed: int
    payments_per_day: int
    played: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    batches: dict[str, BatchState] = field(default_factory=dict)
    banks: dict[str, BankState] = field(default_factory=dict)
    merchant_balances: dict[str, int] = field(default_factory=dict)
    # By currency and ISO date: what the system's book and the bank moved on days that do not agree yet.
    disagreeing: dict[str, dict[str, list[int | None]]] = field(default_factory=dict)
    placed: list[int] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """The next number of a running series, from 1."""
        self.counters[name] = self.counters.get(name, 0) + 1
        return self.counters[name]

    def digits(self, length: int, *parts: object) -> str:
        """Digits that depend on the seed and ``parts`` alone."""
        number = int.from_bytes(sha256("|".join(map(str, (self.seed, *parts))).encode()).digest()[:16], "big")
        return f"{number % 10**length:0{length}d}"

    def save(self, path: Path) -> None:
        """Write the state in one step."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), sort_keys=True))
        part.replace(path)


def new_world(seed: int, payments_per_day: int) -> WorldState:
    """The state before the first day."""
    banks = {
        currency: BankState(account.opening_minor, account.first_statement - 1)
        for currency, account in BANK_ACCOUNTS.items()
    }
    return WorldState(seed, payments_per_day, banks=banks)


def load(path: Path) -> WorldState:
    """The saved state.

    :raises FileNotFoundError: there is no sandbox here yet.
    """
    raw = json.loads(path.read_text())
    raw["batches"] = {key: BatchState(**value) for key, value in raw["batches"].items()}
    raw["banks"] = {key: BankState(**value) for key, value in raw["banks"].items()}
    return WorldState(**raw)


def batch_key(processor: str, account: str, booked_on: date) -> str:
    """Names a settlement batch of all currencies, also as a file name."""
    if (processor, account) not in ACCOUNTS:
        raise ValueError(f"the sandbox has no account {account} at {processor}")
    return f"{processor}_{account}_{booked_on}"
