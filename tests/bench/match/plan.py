"""What is planted: which faults, how often, and how the world around them behaves. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

# Faults of one payment: what happens to its capture, refund or dispute, and to the processor's lines about it.
PAYMENT_FAULTS: dict[str, str] = {
    "never_settled": "captured, and no report ever has it",
    "never_refunded": "refunded, and no report ever has it",
    "settled_late": "settled when overdue, within the window",
    "settled_at_window_end": "settled on the last day of the window",
    "settled_too_late": "settled after the window",
    "under": "the line's gross is smaller than the capture",
    "over": "the line's gross is larger than the capture",
    "rounding": "one minor unit off",
    "beyond_rounding": "one minor unit more than rounding allows",
    "wrong_currency": "the right number in the wrong currency",
    "wrong_sign": "a refund's line has a positive sign",
    "fee_off": "the fee is off by more than the tolerance",
    "fee_at_tolerance": "the fee is off by the tolerance exactly: nothing is wrong",
    "fx_off": "net and fee are not the gross at the processor's own rate",
    "fx_at_tolerance": "they are, but for what is tolerated: nothing is wrong",
    "no_rate": "settled in another currency, and the rate is not told",
    "fee_without_contract": "a fee where no contract of the day says how much",
    "twice_in_report": "the line is there twice, a few seconds apart",
    "twice_later": "a later report has the line again",
    "twice_other_amount": "the capture's amount and another one, both under its reference, in one report",
    "corrected_by_second_line": "a line too small, and in a later report one that is exactly the capture",
    "settled_in_parts": "two lines in two reports that add up to the capture",
    "settled_in_parts_at_once": "two lines in one report that add up to the capture",
    "no_reference": "the line has the order only: it still matches by order and amount",
    "no_reference_far_away": "the line has the order only and comes weeks later",
    "no_reference_twins": "two equal captures of one order and a line that could be either's",
    "no_reference_twice": "one capture and two equal lines that have the order only",
    "no_key": "the line has no reference at all, and its capture waits in vain",
    "swapped": "two captures whose lines bear each other's reference",
    "stranger": "a line of a payment nobody knows",
    "unmapped": "a line of a type no vocabulary has",
    "ledger_late": "the ledger hands the capture over two closes after the processor settled it",
    "cut_off": "booked seconds before midnight, captured seconds after",
    "cut_off_ledger_late": "the same, and the ledger hands it over one close later still",
    "future_dated": "the night's snapshot already holds a capture of the next day",
    "refund_first": "refunded before it is captured",
    "refund_failed": "a refund that failed in the ledger is settled by the processor",
    "refund_failed_after_line": "settled while pending, failed in the ledger afterwards",
    "refund_pending_long": "the refund succeeds in the ledger days after it was asked for",
    "refund_reversed": "the processor gives a refund back",
    "chargeback_reversed": "the processor gives a chargeback back, the ledger never learns of it",
    "chargeback_won_late": "the processor gives a chargeback back, the ledger learns of it days later",
    "second_chargeback": "a chargeback that was won comes again",
    "reserve": "the processor holds an amount back for good",
    "reserve_released": "the processor holds an amount back and releases it",
    "changed_after_match": "the ledger changes an amount that was matched",
    "changed_before_line": "the ledger lowers an amount, and the line has the new one",
    "gone_after_match": "a matched capture disappears from the ledger",
    "gone_before_line": "a capture disappears from the ledger before it settles, and never does",
}

# Faults of a settlement report that is sent again.
RESTATED_FAULTS: dict[str, str] = {
    "unchanged": "sent again as it was",
    "line_changed": "one line has another gross and net, the payout is as it was",
    "line_and_payout_changed": "one line and the payout have changed by as much",
    "line_gone": "one line is not there any more",
}

# Faults of a processor's payout.
PAYOUT_FAULTS: dict[str, str] = {
    "not_at_bank": "announced, and never at the bank",
    "at_bank_late": "booked by the bank four business days late",
    "short": "the bank keeps charges",
    "more": "the bank credits more",
    "in_two": "two credits of one day",
    "in_two_days": "two credits, two business days apart",
    "half": "three fifths of it, and the rest never",
    "merged": "one credit for this payout and the next one of the account",
    "merged_unnamed": "paid out with the next report, the bank pays that report's payout with it and names none",
    "returned": "credited, and taken back two days later",
    "returned_at_once": "credited and taken back on one day",
    "returned_announced": "credited and taken back, and the processor reports the return three days after",
    "twice": "credited again the next day",
    "no_reference": "credited without its reference: account and amount are enough",
    "twins": "two payouts of one amount, credited without reference",
    "other_than_batch": "the payout is not the sum of its batch",
    "no_payout": "the batch is never paid out",
    "negative": "fees exceed sales: the processor claims money from the bank account, and all is well",
    "late_payout": "the payout of the batch is announced with the next report",
}

# Faults of a merchant payout, a conversion and the payment system's own book.
MERCHANT_PAYOUT_FAULTS: dict[str, str] = {
    "not_at_bank": "sent, and never at the bank",
    "at_bank_late": "booked by the bank four business days late",
    "unknown": "a debit with a payout's reference that was never sent",
    "other_amount": "the bank moved another amount",
    "twice": "the bank paid it twice",
    "returned": "the system says returned, and days later the bank's entry comes",
    "returned_bank_first": "the bank's return comes, and days later the system says so",
    "returned_never": "the system says returned, and the bank's entry never comes",
    "reference_in_capitals": "the bank sets the reference in capitals: it matches",
    "reference_lost": "the bank leaves the reference out: nobody can tell what the debit is",
}
CONVERSION_FAULTS: dict[str, str] = {
    "not_at_bank": "executed, and one leg never at the bank",
    "at_bank_late": "one leg booked four business days late",
    "unknown": "an entry with a conversion's reference that was never ordered",
    "weekend_rate": "ordered on a Saturday at Friday's rate, bought by the bank at Monday's",
}
BOOK_FAULTS: dict[str, str] = {
    "booked_late": "an entry stands in the book two business days after the bank's day",
    "booked_early": "an entry stands in the book the business day before the bank's day",
    "not_booked": "an entry of the bank is never booked",
    "booked_only": "an entry of the book that no bank ever had",
    "other_amount": "booked with another amount and put right three business days later",
    "bank_alone": "the bank moves the account on a Saturday, and the book says so three closes later",
    "book_alone": "the book moves the account on a Saturday, and the bank never does",
}


@dataclass(frozen=True)
class Plan:
    """One world: its size, its seed, its rates.

    :param payments: payments over the whole time.
    :param payment_rates: fault -> share of payments that have it; faults joined by ``+`` meet on one item.
    :param least: how many of each fault at least.
    :param payout_faults, ...: fault -> how many.
    :param lags: processor -> business days to settlement, where the seed is to be overruled.
    :param silent_accounts: (processor, account) -> first and last close without its report.
    :param silent_banks: bank account -> first and last close without its statement.
    :param reports_late: share of reports that come one close late.
    :param early_share, late_share: share of lines that come a business day before, or after, the expected one.
    """

    name: str
    seed: int
    payments: int
    closes: int = 30
    first: date = date(2026, 10, 5)
    payment_rates: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(PAYMENT_FAULTS, 0.0004))
    least: int = 3
    restated_faults: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(RESTATED_FAULTS, 3))
    payout_faults: Mapping[str, int] = field(default_factory=lambda: {**dict.fromkeys(PAYOUT_FAULTS, 3), "twins": 2})
    merchant_payout_faults: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(MERCHANT_PAYOUT_FAULTS, 4))
    conversion_faults: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(CONVERSION_FAULTS, 3))
    book_faults: Mapping[str, int] = field(default_factory=lambda: {**dict.fromkeys(BOOK_FAULTS, 2), "book_alone": 1})
    lags: Mapping[str, int] = field(default_factory=dict)
    silent_accounts: Mapping[tuple[str, str], tuple[int, int]] = field(
        default_factory=lambda: {("paypal", "EZTIEOUTAP"): (11, 14)}
    )
    silent_banks: Mapping[str, tuple[int, int]] = field(default_factory=lambda: {"GB29NWBK60161331926819": (17, 19)})
    reports_late: float = 0.02
    early_share: float = 0.01
    late_share: float = 0.01
    refund_share: float = 0.04
    dispute_share: float = 0.006
    merchant_payouts_a_day: int = 8
    conversions_a_day: int = 2

    def seeded(self, seed: int, payments: int) -> Plan:
        """The same world at another seed and size."""
        return replace(self, seed=seed, payments=payments)


def usual(seed: int, payments: int) -> Plan:
    """The world that the benchmark was built with."""
    return Plan("usual", seed, payments)
