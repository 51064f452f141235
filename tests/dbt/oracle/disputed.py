"""Where the SQL is known to read the rules' words differently: settle one, and it goes; with the last, this module.

:class:`AsBuilt` reads them as the SQL does. Each of :data:`WORLDS` is the smallest that shows one of the differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.dbt.oracle.facts import LEFT, RIGHT, Item, Outcome, World
from tests.dbt.oracle.matcher import REVERSALS, Matcher, clearing_minor, is_one_currency, keys_of, sides
from tests.dbt.oracle.rules import Rule


class AsBuilt(Matcher):
    """The matcher with every disputed case read as the SQL reads it."""

    def _group_total(self, rule: Rule, items: Sequence[Item]) -> None:
        for group in self._by_key(rule, items):
            if len(group) > 1 and is_one_currency(group) and clearing_minor(group) == 0:
                self._decide(group, Outcome("matched", None, rule.rule_id, keys_of(group)))

    @staticmethod
    def _may_repeat(rule: Rule) -> bool:
        return True

    def _unique(self, rule: Rule, items: Sequence[Item]) -> None:
        for group in self._by_key(rule, items):
            days = [item.value_date for item in group]
            spread = self.rules.days_between(group[0].currency, min(days), max(days))
            if all(sides(group)) and spread <= rule.window_business_days:
                super()._unique(rule, group)

    def _unheard_of(self, item: Item) -> str:
        return REVERSALS.get(item.item_type) or super()._unheard_of(item)


_DAY = date(2026, 10, 30)
_BOOK = Item(
    item_key="book", reconciliation="ledger_bank", side=LEFT, item_type="book_day", amount_minor=100, currency="EUR",
    clearing_account="system_book:bank", value_date=_DAY, expected_date=_DAY, due_date=_DAY, bank_account="bank",
    strong_key=f"bank|EUR|{_DAY}", weak_key="bank|EUR",
)  # fmt: skip
_BANK = replace(_BOOK, item_key="bank", side=RIGHT, item_type="bank_day", expected_date=None, due_date=None)
_PAYOUT = Item(
    item_key="payout", reconciliation="processor_bank", side=LEFT, item_type="payout", amount_minor=100, currency="EUR",
    clearing_account="cash_in_transit:adyen", value_date=_DAY, expected_date=_DAY, due_date=_DAY, processor="adyen",
    bank_account="bank", strong_key="adyen|a", weak_key="adyen|bank|100", pool_key=f"adyen|bank|EUR|{_DAY}",
)  # fmt: skip
_CREDIT = replace(
    _PAYOUT, item_key="credit", side=RIGHT, item_type="bank_entry", strong_key=None, expected_date=None, due_date=None
)
_REVERSED = Item(
    item_key="line", reconciliation="payment_processor", side=RIGHT, item_type="chargeback_reversal", amount_minor=100,
    currency="EUR", clearing_account="psp_clearing:adyen", value_date=_DAY, processor="adyen",
    strong_key="adyen|a|chargeback_reversal",
    occurred_at=datetime(2026, 10, 30, 23, 59, 55, tzinfo=ZoneInfo("Europe/Amsterdam")),
)  # fmt: skip
_YESTERDAY = replace(_BANK, item_key="day before", value_date=_DAY - timedelta(1), strong_key="bank|EUR|2026-10-29")

WORLDS = {
    "a payout and one that was taken back are not at the bank because they are as large": World(
        _DAY, (_PAYOUT, replace(_PAYOUT, item_key="return", amount_minor=-100, strong_key="adyen|b"))
    ),
    "an account that disagrees is one break, also when one day equals another": World(
        _DAY, (_BOOK, _YESTERDAY, replace(_BANK, amount_minor=5))
    ),
    "a payout long lost is no candidate for a credit of today": World(
        _DAY, (_PAYOUT, replace(_PAYOUT, item_key="lost", value_date=date(2026, 10, 1), strong_key="adyen|b"), _CREDIT)
    ),
    "a chargeback reversed seconds before the cut-off may be in our ledger tomorrow": World(
        _DAY, (_REVERSED,)
    ),
}
