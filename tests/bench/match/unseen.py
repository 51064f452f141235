"""The world that was held back: other rates, lags and silences, and faults that meet on one item.

Nothing was ever tuned to it: what it shows wrong is to be fixed in what is judged, or written into the decisions.
"""

from __future__ import annotations

from datetime import date

from tests.bench.match.plan import PAYMENT_FAULTS, Plan

MEETING = (
    "under+fee_off", "over+settled_too_late", "rounding+fee_off", "rounding+settled_too_late", "under+settled_late",
    "fee_off+settled_too_late", "fee_without_contract+settled_too_late", "wrong_currency+settled_too_late",
    "under+twice_later", "over+twice_in_report", "settled_too_late+twice_later", "ledger_late+under",
    "ledger_late+fee_off", "ledger_late+twice_in_report", "under+changed_after_match", "rounding+changed_after_match",
    "over+gone_after_match", "fee_off+gone_after_match", "fee_at_tolerance+settled_at_window_end",
    "beyond_rounding+fee_without_contract", "settled_late+twice_in_report", "ledger_late+beyond_rounding",
)  # fmt: skip


def unseen(seed: int, payments: int) -> Plan:
    """The held-back world at a seed and size."""
    return Plan(
        "unseen",
        seed,
        payments,
        first=date(2026, 11, 16),
        payment_rates={**dict.fromkeys(PAYMENT_FAULTS, 0.0007), **dict.fromkeys(MEETING, 0.0005)},
        least=2,
        lags={"adyen": 3, "stripe": 1, "paypal": 0},
        silent_accounts={("stripe", "acct_gulf"): (6, 8), ("adyen", "TieoutAPAC"): (16, 20)},
        silent_banks={"JP00051234567": (9, 12), "NL91ABNA0417164300": (22, 23)},
        reports_late=0.06,
        early_share=0.03,
        late_share=0.04,
        refund_share=0.09,
        dispute_share=0.02,
        merchant_payouts_a_day=12,
        conversions_a_day=3,
    )
