"""A landing folder with a warehouse behind it, and files as processors and banks send them, to fill it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from tieout.landing.accounts import DeclaredAccounts
from tieout.landing.load import FileOutcome, load_landing
from tieout.sandbox.formats import Entry, Statement, mt940
from tieout.sources import Registry, load_registry

ROOT = Path(__file__).resolve().parents[2]
AS_OF = datetime(2026, 10, 28, 4, tzinfo=UTC)
FIXTURES = Path(__file__).parent / "files" / "fixtures"
ADYEN_HEADER = (FIXTURES / "adyen.csv").read_text(encoding="utf-8").splitlines()[0]


def rates(*days: int, usd: str = "1.1") -> str:
    """An ECB file, which the real reader takes."""
    lines = [f"2026-10-{day},{usd},180.25," for day in sorted(days, reverse=True)]
    return "\n".join(["Date,USD,JPY,", *lines, ""])


class Desk:
    """A landing folder, a warehouse, and what is in them."""

    def __init__(self, folder: Path, warehouse: Connection, registry: Registry) -> None:
        self.folder = folder
        self.warehouse = warehouse
        self.registry = registry

    def put(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, root: Any = None, accounts: DeclaredAccounts | None = None) -> list[FileOutcome]:
        return load_landing(root or self.folder, self.warehouse, self.registry, AS_OF, accounts)

    def outcomes(self, root: Any = None) -> dict[str, str]:
        return {outcome.name: outcome.outcome for outcome in self.run(root)}

    def ask(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.warehouse, self.warehouse.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def traces(self) -> dict[str, int]:
        """Rows in every table a file could leave something in."""
        tables = [table.raw_table for table in self.registry.tables if table.kind == "file"]
        names = ["ops.files", "ops.documents", "ops.batches", "ops.batch_totals", *(f"raw.{table}" for table in tables)]
        counts = {name: self.ask(f"select count(*) from {name}")[0][0] for name in names}
        return {name: count for name, count in counts.items() if count}


@pytest.fixture
def desk(warehouse: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    folder = tmp_path / "landing"
    folder.mkdir()
    yield Desk(folder, warehouse, load_registry(ROOT / "dbt_project"))
    assert list(scratch.iterdir()) == [], "temporary files were left behind"


def adyen(batches: dict[int, Sequence[tuple[str, int]]], account: str = "ShopEU", paid_out: bool = True) -> str:
    """A settlement report: per batch the captures (reference, cents), and the payout that proves them."""
    lines = [ADYEN_HEADER]
    for batch, captures in batches.items():
        for reference, cents in captures:
            amount = f"{cents // 100}.{cents % 100:02d}"
            lines.append(
                f"Shop,{account},{reference},ORDER-{reference},visa,2026-10-19 09:15:00,CEST,Settled,{reference},EUR,,"
                f"{amount},1,EUR,,{amount},,,,,visadebit,,{batch},,2026-10-21 13:00:00,CEST"
            )
        if paid_out:
            total = sum(cents for _, cents in captures)
            lines.append(
                f'Shop,{account},,,,2026-10-21 13:00:00,CEST,MerchantPayout,"TX{batch:09d}XT batch {batch}",,,,,EUR,'
                f"{total // 100}.{total % 100:02d},,,,,,,,{batch},,2026-10-21 13:00:00,CEST"
            )
    return "\n".join([*lines, ""])


def statement(
    number: int, opening: int, *entries: int, account: str = "GB29NWBK60161331926819", day: date | None = None
) -> str:
    """An MT940 statement in GBP: number, opening balance and entries in pence; number 1 closes on October 1."""
    closes_on = day or date(2026, 10, 1) + timedelta(days=number - 1)
    booked = tuple(Entry(amount, f"B-{number}-{place}", "TRANSFER") for place, amount in enumerate(entries, 1))
    return mt940.render(
        Statement("GBP", account, "NatWest", "NWBKGB2L", number, closes_on, opening, opening + sum(entries), booked)
    )
