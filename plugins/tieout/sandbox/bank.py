"""The banks of the sandbox: entries on their way, daily statements that run on from each other."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path

from tieout.sandbox import book
from tieout.sandbox.days import LAST_DAY, is_business_day
from tieout.sandbox.formats import Entry, Statement, bai2, camt053, mt940
from tieout.sandbox.landing_place import LandingPlace
from tieout.sandbox.market import BANK_ACCOUNTS
from tieout.sandbox.state import WorldState

WRITERS = {"camt053": camt053, "mt940": mt940, "bai2": bai2}
REFERENCE_PREFIX = {"EUR": "ABN", "GBP": "NWB", "USD": "CHS", "JPY": "MUF", "KWD": "CBK", "NZD": "BNZ"}


class Bank:
    """All our bank accounts, one a currency."""

    def __init__(self, state: WorldState, landing: LandingPlace) -> None:
        self.state = state
        self.landing = landing

    def expect(
        self,
        currency: str,
        day: date,
        amount_minor: int,
        text: str,
        *,
        code: str = "transfer",
        customer_reference: str = "",
        counterparty: str = "",
        is_reversal: bool = False,
    ) -> str:
        """The bank will book an entry on ``day``; positive is money in.

        :returns: the bank's own reference of the entry.
        """
        if not is_business_day(day, currency):
            raise ValueError(f"{day} is no business day of {currency}: banks book nothing")
        entries = self.state.banks[currency].pending.setdefault(day.isoformat(), [])
        reference = f"{REFERENCE_PREFIX[currency]}{day:%y%m%d}{len(entries) + 1:04d}"
        entry = Entry(amount_minor, reference, text, code, customer_reference, counterparty, is_reversal)
        entries.append(asdict(entry))
        return reference

    def close_day(self, day: date) -> list[Path]:
        """Issue the statements of ``day``; a currency's bank issues none on its closed days."""
        files = []
        for currency, account in BANK_ACCOUNTS.items():
            if not is_business_day(day, currency) or day > LAST_DAY:
                continue
            bank = self.state.banks[currency]
            entries = tuple(Entry(**entry) for entry in bank.pending.pop(day.isoformat(), []))
            opening = bank.balance_minor
            for entry in entries:
                bank.balance_minor += entry.amount_minor
                book.moved(self.state, book.BANK, currency, day, entry.amount_minor)
            bank.statement_number += 1
            statement = Statement(
                currency, account.number, account.bank, account.bic, bank.statement_number, day,
                opening, bank.balance_minor, entries,
            )  # fmt: skip
            writer = WRITERS[account.statement_format]
            files.append(self.landing.deliver_text("bank", writer.file_name(statement), writer.render(statement)))
        return files
