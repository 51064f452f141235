"""Which trouble is planted, when and where: data only. ``KINDS`` says what each kind is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from tieout.sandbox.days import october

KINDS: dict[str, str] = {
    "EXPECTED_NOT_DUE": "nothing is wrong: the counterpart is not due yet",
    "IN_LEDGER_NOT_PSP": "the processor never settles what the ledger captured or refunded",
    "MISSING_OVERDUE": "a processor account falls silent: no report, so nothing can be said to be missing in it",
    "IN_PSP_NOT_LEDGER": "the processor settles a payment the ledger has never heard of",
    "UNDER": "the processor settles less than was captured",
    "OVER": "the processor settles more than was captured",
    "ROUNDING": "the processor's gross is one minor unit off",
    "DUPLICATE": "the processor settles one capture twice, and pays it out twice",
    "CURRENCY_MISMATCH": "the processor settles the right number in the wrong currency",
    "FEE_VARIANCE": "the fee on the line is not the contracted one",
    "DIRECTION": "a refund arrives with a positive sign",
    "UNMAPPED_TYPE": "a line of a type that no vocabulary knows",
    "MISSING_KEY": "a line without any reference",
    "AMBIGUOUS": "two equal captures of one order, one line that could be either's",
    "STATUS": "a refund that failed in the ledger is settled by the processor",
    "CUTOFF_TEMPORARY": "booked by the processor just before midnight, captured by the ledger just after",
    "CHARGEBACK_REVERSED": "the processor gives a chargeback back, the ledger does not know",
    "REFUND_REVERSED": "the processor gives a refund back, the ledger does not know",
    "RESERVE_HELD": "the processor holds a reserve back",
    "RESERVE_RELEASED": "a reserve is given back under its own reference: both sides match",
    "DATE_OUT_OF_WINDOW": "settled more than five business days after it was expected",
    "NEGATIVE_BATCH": "refunds exceed sales: the processor claims money from the bank account",
    "PSP_NOT_BANK": "a payout never reaches the bank",
    "BANK_NOT_PSP": "money arrives that no processor announced",
    "PAYOUT_RETURNED": "a payout arrives and is taken back under the same reference",
    "BANK_UNDER": "the bank keeps 15.00 of a payout",
    "BANK_DUPLICATE": "the bank books a payout again the next day",
    "SPLIT": "a payout arrives as two entries of the same day: both together match",
    "SPLIT_INCOMPLETE": "only the first of a payout's two parts arrives",
    "PAYOUT_NOT_BANK": "the bank never carries out a merchant's payout",
    "BANK_NOT_PAYOUT": "the bank pays out under a reference that the payment system never gave",
    "PAYOUT_CHARGED": "the bank debits a merchant's payout and its own charge in one entry",
    "PAYOUT_BACK": "a merchant's payout comes back and the payment system knows the same day: both sides match",
    "PAYOUT_BACK_EARLY": "a merchant's payout comes back a business day before the payment system knows",
    "BULK_PAYOUT": "one debit pays two merchants' payouts under one reference: all three match",
    "FX_NOT_BANK": "the bank never books one leg of a conversion",
    "BANK_NOT_FX": "the bank books a conversion that the payment system never ordered",
    "FX_DIFFERENCE": "the bank books a conversion's bought leg at a worse rate",
    "BALANCE_DIFFERENCE": "the system's book and the bank moved an account differently since both last agreed",
    "LEDGER_NOT_BANK": "the system's book has a charge days before the bank takes it",
    "BANK_NOT_LEDGER": "the system's book misses a payout that the bank has",
    "LATE_REPORT": "a report comes a day late",
    "TRUNCATED_FILE": "a report breaks off; the whole file comes the next day",
    "DUPLICATE_FILE": "a file comes again under another name",
    "MISSING_RATE": "a day's reference rates never come",
}


@dataclass(frozen=True, slots=True)
class Plant:
    """A planted payment or line.

    :param day: day of October on which the payment is captured; for ``line_only`` kinds, the line is booked.
    :param then: day of the refund or the dispute that follows.
    :param line_day: day the troubled line is booked, where the usual lag does not say it.
    :param processor: takes the payment where two could.
    """

    kind: str
    day: int
    country: str = "NL"
    network: str = "visa"
    then: int | None = None
    line_day: int | None = None
    processor: str = ""


# One of each at 60 payments a day, one more for every 2,000 payments a day above the first 2,000.
PLANTS: tuple[Plant, ...] = (
    Plant("IN_LEDGER_NOT_PSP", 20, "NL", "visa"),
    Plant("IN_LEDGER_NOT_PSP", 20, "JP", "mastercard"),
    Plant("IN_LEDGER_NOT_PSP", 23, "US", "visa", processor="stripe"),
    Plant("IN_LEDGER_NOT_PSP", 26, "DE", "paypal"),
    Plant("IN_LEDGER_NOT_PSP", 27, "FR", "paypal"),
    Plant("IN_LEDGER_NOT_PSP", 22, "GB", "mastercard", then=26),
    Plant("UNDER", 19, "DE", "visa"),
    Plant("UNDER", 26, "IE", "mastercard"),
    Plant("UNDER", 27, "KW", "visa"),
    Plant("UNDER", 28, "DE", "paypal"),
    Plant("OVER", 20, "US", "visa", processor="stripe"),
    Plant("OVER", 27, "GB", "visa"),
    Plant("ROUNDING", 21, "FR", "mastercard"),
    Plant("ROUNDING", 28, "DE", "paypal"),
    Plant("DUPLICATE", 20, "NL", "ideal"),
    Plant("DUPLICATE", 29, "FR", "paypal"),
    Plant("CURRENCY_MISMATCH", 21, "US", "mastercard", processor="adyen"),
    Plant("CURRENCY_MISMATCH", 28, "US", "visa", processor="adyen"),
    Plant("FEE_VARIANCE", 19, "DE", "mastercard"),
    Plant("FEE_VARIANCE", 26, "US", "mastercard", processor="stripe"),
    Plant("FEE_VARIANCE", 29, "NL", "paypal"),
    Plant("DIRECTION", 19, "NL", "mastercard", then=21),
    Plant("DIRECTION", 23, "GB", "visa", then=27),
    Plant("AMBIGUOUS", 20, "DE", "visa"),
    Plant("AMBIGUOUS", 26, "NL", "mastercard"),
    Plant("STATUS", 19, "FR", "visa", then=20),
    Plant("STATUS", 22, "US", "visa", then=27, processor="stripe"),
    Plant("CUTOFF_TEMPORARY", 20, "DE", "paypal"),
    Plant("CUTOFF_TEMPORARY", 27, "NL", "paypal"),
    Plant("CUTOFF_TEMPORARY", 28, "DE", "paypal"),
    Plant("CUTOFF_TEMPORARY", 29, "FR", "paypal"),
    Plant("CHARGEBACK_REVERSED", 19, "NL", "visa", then=21, line_day=26),
    Plant("CHARGEBACK_REVERSED", 20, "US", "visa", then=22, line_day=29, processor="stripe"),
    Plant("CHARGEBACK_REVERSED", 20, "DE", "paypal", then=23, line_day=28),
    Plant("REFUND_REVERSED", 19, "DE", "mastercard", then=21, line_day=27),
    Plant("REFUND_REVERSED", 20, "US", "mastercard", then=23, line_day=30, processor="stripe"),
    Plant("DATE_OUT_OF_WINDOW", 19, "NL", "visa", line_day=29),
    Plant("DATE_OUT_OF_WINDOW", 20, "DE", "mastercard", line_day=30),
    Plant("NEGATIVE_BATCH", 19, "NZ", "visa", then=20),
    Plant("NEGATIVE_BATCH", 26, "NZ", "visa", then=27),
    Plant("IN_PSP_NOT_LEDGER", 22, "NL", "visa"),
    Plant("IN_PSP_NOT_LEDGER", 28, "DE", "paypal"),
    Plant("IN_PSP_NOT_LEDGER", 29, "US", "visa", processor="stripe"),
    Plant("IN_PSP_NOT_LEDGER", 30, "GB", "mastercard"),
    Plant("UNMAPPED_TYPE", 23, "NL", "visa"),
    Plant("UNMAPPED_TYPE", 28, "DE", "paypal"),
    Plant("UNMAPPED_TYPE", 30, "US", "visa", processor="stripe"),
    Plant("MISSING_KEY", 22, "DE", "visa"),
    Plant("MISSING_KEY", 29, "NL", "visa"),
    Plant("RESERVE_HELD", 22, "NL", "visa"),
    Plant("RESERVE_HELD", 29, "GB", "visa"),
    Plant("RESERVE_RELEASED", 23, "NL", "visa", then=28),
)
PAYMENTS_PER_COPY = 2000

# On these days New Zealand's cards are down and shoppers pay by wallet, so that a batch holds refunds alone.
NO_CARDS_IN = {october(20): "NZ", october(27): "NZ"}

# This account delivers nothing booked on this day or later, and pays nothing out.
SILENT_ACCOUNT = ("paypal", "EZTIEOUTAP")
SILENT_FROM = october(28)

Report = tuple[str, str, date]
LATE_REPORT: Report = ("adyen", "TieoutAPAC", october(28))
TRUNCATED_REPORT: Report = ("stripe", "acct_us", october(28))
DUPLICATE_REPORT: Report = ("adyen", "TieoutEU", october(28))
MISSING_RATES_ON = october(28)


@dataclass(frozen=True, slots=True)
class PayoutPlant:
    """Trouble with an account's first payout in a currency that is booked on ``day`` or later and large enough.

    ``at_least`` is in major units: a payout that loses 15.00 has to look like itself still.
    """

    kind: str
    processor: str
    account: str
    currency: str
    day: int
    at_least: int = 40


PAYOUT_PLANTS: tuple[PayoutPlant, ...] = (
    PayoutPlant("PSP_NOT_BANK", "stripe", "acct_us", "USD", 22),
    PayoutPlant("PSP_NOT_BANK", "adyen", "TieoutEU", "GBP", 27),
    PayoutPlant("PAYOUT_RETURNED", "adyen", "TieoutEU", "GBP", 26),
    PayoutPlant("PAYOUT_RETURNED", "adyen", "TieoutAPAC", "JPY", 27),
    PayoutPlant("BANK_UNDER", "adyen", "TieoutEU", "EUR", 23, at_least=400),
    PayoutPlant("BANK_UNDER", "adyen", "TieoutEU", "EUR", 29, at_least=400),
    PayoutPlant("BANK_DUPLICATE", "paypal", "EZTIEOUTEU", "EUR", 27),
    PayoutPlant("SPLIT", "paypal", "EZTIEOUTEU", "EUR", 21),
    PayoutPlant("SPLIT", "adyen", "TieoutEU", "EUR", 28),
    PayoutPlant("SPLIT_INCOMPLETE", "stripe", "acct_us", "USD", 21),
    PayoutPlant("SPLIT_INCOMPLETE", "adyen", "TieoutEU", "EUR", 27),
)
BANK_KEEPS_MINOR = 1500


@dataclass(frozen=True, slots=True)
class StrayEntry:
    """An entry on a bank statement that nobody announced; ``kind`` is also the code of its break."""

    kind: str
    reconciliation: str
    day: int
    currency: str
    amount_minor: int
    counterparty: str
    text: str
    customer_reference: str = ""


STRAY_ENTRIES: tuple[StrayEntry, ...] = (
    StrayEntry("BANK_NOT_PSP", "processor_bank", 22, "EUR", 43_210, "K. JANSEN", "INVOICE 55671"),
    StrayEntry("BANK_NOT_PSP", "processor_bank", 28, "GBP", 125_000, "HARBOUR LETTINGS", "DEPOSIT UNIT 14"),
    StrayEntry("BANK_NOT_PSP", "processor_bank", 29, "JPY", 88_000, "SAKURA KANKO", "INVOICE A-2210"),
    StrayEntry("BANK_NOT_PSP", "processor_bank", 30, "USD", 61_750, "PRAIRIE SUPPLY CO", "PO 118845"),
    StrayEntry("BANK_NOT_PAYOUT", "payout_bank", 23, "USD", -31_940, "CEDAR LOFTS", "PAYOUT PO-900023", "PO-900023"),
    StrayEntry("BANK_NOT_PAYOUT", "payout_bank", 28, "EUR", -23_450, "VLIET ATELIER", "PAYOUT PO-900017", "PO-900017"),
    StrayEntry("BANK_NOT_FX", "fx_bank", 29, "USD", -310_000, "", "FX FX-900003", "FX-900003"),
)


@dataclass(frozen=True, slots=True)
class MerchantPayoutPlant:
    """An advance to merchants of one currency, of the same amount whatever they sold.

    They pay it back after the sandbox's last day, so that it takes nothing from their ordinary payouts.
    """

    kind: str
    day: int
    merchants: tuple[str, ...]
    amounts_minor: tuple[int, ...]


MERCHANT_PAYOUT_PLANTS: tuple[MerchantPayoutPlant, ...] = (
    MerchantPayoutPlant("PAYOUT_NOT_BANK", 21, ("mer_0011",), (27_350,)),
    MerchantPayoutPlant("PAYOUT_NOT_BANK", 26, ("mer_0004",), (41_280,)),
    MerchantPayoutPlant("PAYOUT_CHARGED", 22, ("mer_0002",), (36_615,)),
    MerchantPayoutPlant("PAYOUT_CHARGED", 28, ("mer_0008",), (52_490,)),
    MerchantPayoutPlant("PAYOUT_BACK", 23, ("mer_0008",), (18_725,)),
    MerchantPayoutPlant("PAYOUT_BACK", 27, ("mer_0004",), (22_160,)),
    MerchantPayoutPlant("PAYOUT_BACK_EARLY", 26, ("mer_0002",), (64_935,)),
    MerchantPayoutPlant("PAYOUT_BACK_EARLY", 27, ("mer_0013",), (38_400,)),
    MerchantPayoutPlant("BULK_PAYOUT", 22, ("mer_0008", "mer_0008"), (15_330, 20_845)),
    MerchantPayoutPlant("BULK_PAYOUT", 27, ("mer_0002", "mer_0004"), (29_870, 33_115)),
)
BANK_CHARGES_MINOR = 750

# Conversions by their day, and which leg (sold, bought) of which goes wrong.
CONVERSIONS = {
    october(21): ("USD", "EUR"), october(22): ("GBP", "USD"), october(26): ("GBP", "EUR"), october(27): ("USD", "EUR"),
}  # fmt: skip
FX_PLANTS = {(october(22), "sold"): "FX_NOT_BANK", (october(26), "bought"): "FX_DIFFERENCE"}
# What the bank books of the leg that differs, in ten-thousandths of what was agreed.
WORSE_RATE_PER_10_000 = 9_940

# A charge that the system books on a day on which its bank is closed, and the day the bank takes it: until then the
# account differs on the system's side alone.
EARLY_CHARGE = ("KWD", october(23), october(28), 12_500)
# The processors' payouts of a currency and a day that the system's book misses: the bank alone has them.
UNBOOKED_PAYOUTS = ("KWD", october(29))
