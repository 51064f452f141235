"""Files that others wrote: counts, sums and balances against the independent truth, or refused for a stated reason.

The samples are not part of the project. They are looked for beside it, or where ``TIEOUT_SAMPLES`` points.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import mt940
import pytest

from tieout import files
from tieout.reading import read_file

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get("TIEOUT_SAMPLES", ROOT.parent / "shared" / "samples"))
WIKIMEDIA = SAMPLES / "psp" / "wikimedia__wikimedia-fundraising-SmashPig" / "PaymentProviders"

pytestmark = pytest.mark.skipif(
    not (SAMPLES / "bank_truth.json").is_file(), reason=f"no samples in {SAMPLES}: set TIEOUT_SAMPLES to test on them"
)


@cache
def truth() -> dict[str, dict[str, Any]]:
    path = SAMPLES / "bank_truth.json"
    loaded: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {"camt": {}, "mt940": {}}
    return loaded


def summed(signed_sum: str | dict[str, str]) -> Decimal:
    """One number like the truth's, which adds up whatever currencies a file has."""
    return sum(map(Decimal, signed_sum.values()), Decimal(0)) if isinstance(signed_sum, dict) else Decimal(signed_sum)


def same_balance(found: str, expected: str) -> bool:
    if not (found.startswith("off ") and expected.startswith("off ")):
        return found == expected
    return Decimal(found[4:]) == Decimal(expected[4:])


# Where the truth's balance is not the statement's own, by the end of the path: (balance found, why).
OTHER_BALANCES = {
    "053/valid_example_v8.xml": ("off 1230.05", "the truth takes an entry in EUR off an account in CHF"),
    "self-provided/multiline.sta": ("-", "its one statement is right; an entry stands after the end of the message"),
}
# Files of which the truth has nothing to say against, that break their standard or contradict themselves all the same.
REFUSED = {
    "053/valid_example_with_datetime.xml": "summary differs from its entries",
    "053/valid_example_with_other_id.xml": "statement without balances",
    "qt-csv-export-demo/example.camt053.xml": "negative amount",
    "self-provided/raphaelm.sta": "not a balance",
    "self-provided/mt942.sta": "not a transaction type",
    "052/valid_namespace.xml": "no statement in the file",
    "053/valid_namespace.xml": "no statement in the file",
    "general/invalid_namespace.xml": "no statement in the file",
    "invalid/camt_054_Beispiel_NotificationMissing.xml": "no reader recognises this file",
}


def listed(path: str, table: dict[str, Any]) -> Any:
    return next((value for end, value in table.items() if path.endswith(end)), None)


@pytest.mark.parametrize("path", sorted(truth()["camt"]))
def test_camt(path: str) -> None:
    expected, found = truth()["camt"][path], read_file(SAMPLES / path)
    balance = next(iter(expected["bal"]), "-")
    other, refusal = listed(path, OTHER_BALANCES), listed(path, REFUSED)
    assert (found["statements"], found["entries"]) == (expected["n_stmt"], expected["n_ntry"])
    assert summed(found["signed_sum"]) == Decimal(expected["sum"])
    assert same_balance(found["balance"], other[0] if other else balance)
    assert found["status"] == ("quarantined" if refusal or balance.startswith("off") else "ok"), found["reason"]
    if refusal:
        assert refusal in found["reason"]


@pytest.mark.parametrize("path", sorted(truth()["mt940"]))
def test_mt940(path: str) -> None:
    expected, found = truth()["mt940"][path], read_file(SAMPLES / path)
    other, refusal = listed(path, OTHER_BALANCES), listed(path, REFUSED)
    # n60 and n62 count opening and closing balances; only where they pair up (full) are there statements.
    assert found["statements"] == (expected["n60"] if expected["full"] else 0)
    # n61 counts entries; bad61 those of them that are no statement line, which are counted and not summed.
    assert found["entries"] == expected["n61"]
    assert summed(found["signed_sum"]) == Decimal(expected["sum"])
    assert same_balance(found["balance"], other[0] if other else expected["bal"])
    well_formed = (expected["full"] or expected["mt942"]) and not refusal and not expected["bal"].startswith("off")
    assert found["status"] == ("ok" if well_formed else "quarantined"), found["reason"]
    if refusal:
        assert refusal in found["reason"]
    if not expected["full"] and not expected["mt942"] and found["format"] == "mt940":
        assert "a fragment" in found["reason"]


def test_the_mt940_library_sums_the_same() -> None:
    compared, beyond_it = 0, []
    for path in truth()["mt940"]:
        try:
            ours = files.read(SAMPLES / path, lambda table, row: None)
        except files.Rejected:
            continue
        try:
            theirs = mt940.parse(str(SAMPLES / path), options=mt940.Options.all()).transactions
        except RuntimeError:
            beyond_it.append(Path(path).name)
            continue
        amounts = [movement.data["amount"].amount for movement in theirs]
        assert (len(amounts), sum(amounts)) == (ours.entries, sum(ours.exact_sum.values())), path
        compared += 1
    assert compared >= 20
    # A reference in the place of the transaction type's, which the library reads with a tag of its own only.
    assert sorted(beyond_it) == ["mt940.txt", "mt940_with_spaces_for_entry_date.txt"]


def test_every_bank_sample_is_in_the_truth() -> None:
    known = set(truth()["camt"]) | set(truth()["mt940"])
    there = {str(path.relative_to(SAMPLES)) for kind in ("camt", "mt940") for path in (SAMPLES / kind).rglob("*.*")
             if path.is_file()}  # fmt: skip
    assert there == known


# BAI2: (status, statements, entries, balance, part of the reason).
BAI2 = {
    "account_trailer_amount_blank_example.bai2": ("ok", 2, 0, "-", None),
    "citi_example.bai2": ("quarantined", 1, 1, "off -0.01", "does not prove itself"),
    "nwb_example.bai2": ("ok", 1, 5, "ok", None),
    "svb_us_example.bai2": ("ok", 2, 2, "ok", None),
    "daily.bai2": ("ok", 1, 1, "-", None),
    "daily_with_summary.bai2": ("quarantined", 1, 1, "off -250.01", "does not prove itself"),
    "eod.bai2": ("ok", 1, 1, "-", None),
    "eod_with_slash_in_text.bai2": ("ok", 1, 1, "-", None),
    "eod_without_as_of_time.bai2": ("ok", 1, 1, "-", None),
    "invalid_checksum_eod.bai2": ("quarantined", 1, 1, "-", "control total differs from the records"),
}
NOT_OURS = "no reader recognises this file"
CUT_BY_HAND = "the stated count differs from the rows"
PERSONAL = "a person's export, not a merchant's bill"
# Reports of declared formats, by the end of their path.
DECLARED = {
    "CheckoutCom/Tests/Data/payouts_ent_testcheckoutfixture_20260701_20260702_1(1)-1.csv":
        # Written by hand: 85 paid in and 5.55 taken off are not the 79.51 paid out.
        ("quarantined", 0, "-", "the line contradicts itself"),
    "CheckoutCom/Tests/Data/settlement-breakdown_ent_testcheckoutfixture_20260702_00000003k599_1.csv":
        ("ok", 9, "-", None),
    "Trustly/Tests/Data/P11KFUN-3618-20260201120000-20260202120000-0001of0001.csv":
        ("quarantined", 2, "-", CUT_BY_HAND),
    # Its closing counts two fundings where one stands; the others count right.
    "Trustly/Tests/Data/P11KFUN-3618-r-code-reversal.csv": ("quarantined", 2, "-", CUT_BY_HAND),
    "Trustly/Tests/Data/P11KFUN-3618-recurring-series-collision.csv": ("ok", 2, "ok", None),
    "Trustly/Tests/Data/P11KFUN-3618-refund-long-merchant-reference.csv": ("ok", 1, "ok", None),
    "Trustly/Tests/Data/P11KREC-3618-20260201120000-20260202120000-0001of0001.csv":
        ("quarantined", 0, "-", "not of what was funded"),
    "dlocal/Tests/Data/Wikimedia_Settlement_Reports_20260110.csv":
        ("quarantined", 0, "-", "amounts finer than the currency's smallest unit"),
    "dlocal/Tests/Data/chargebacks.csv": ("quarantined", 0, "-", "states no settlement"),
    "dlocal/Tests/Data/donation.csv": ("quarantined", 0, "-", "states no settlement"),
    "dlocal/Tests/Data/refund.csv": ("quarantined", 0, "-", "states no settlement"),
    "extracted/fundflow_0.csv": ("quarantined", 2, "-", CUT_BY_HAND),
    "extracted/fundflow_2.csv": ("quarantined", 1, "-", "found 'a0.01'"),
    "extracted/tradebill_0.csv": ("ok", 3, "ok", None),
    "extracted/tradebill_2.csv": ("quarantined", 3, "-", "found 'a3'"),
    "extracted/tradebill_4.csv": ("ok", 2, "ok", None),
    "extracted/tradebill_6.csv": ("ok", 1, "ok", None),
    "alipay/example-alipay-records.csv": ("quarantined", 0, "-", PERSONAL),
    "Braintree/Tests/Data/raw_settlement_batch_report.json": ("ok", 3, "-", None),
    "Braintree/Tests/Data/raw_batch_report_refund.json": ("ok", 2, "-", None),
    "Braintree/Tests/Data/raw_batch_report_gravy_refund.json": ("ok", 1, "-", None),
    "Braintree/Tests/Data/raw_batch_report_dispute.json": ("quarantined", 0, "-", "a report of disputes"),
    "Braintree/Tests/Data/raw_batch_report_dispute_single_nd_json.json":
        ("quarantined", 0, "-", "a report of disputes"),
    # What another program made of Braintree's report: no account, no disbursement.
    "Braintree/Tests/Data/settlement_batch_report_2022-06-27.json": ("quarantined", 0, "-", NOT_OURS),
    "Braintree/Tests/Data/settlement_batch_report_dispute_2022-06-27.json": ("quarantined", 0, "-", NOT_OURS),
    "Braintree/Tests/Data/settlement_batch_report_gravy_2022-06-27.json": ("quarantined", 0, "-", NOT_OURS),
    "Braintree/Tests/Data/settlement_batch_report_refund_2022-06-27.json": ("quarantined", 0, "-", NOT_OURS),
    "Responses/balance-transaction-list.json":
        ("quarantined", 0, "-", "the count differs from the transactions; expected 5, found '2'"),
    "Responses/settlement.json": ("quarantined", 0, "-", "a summary of settlements, which names no payment"),
    "Responses/settlement-list.json": ("quarantined", 0, "-", "a summary of settlements, which names no payment"),
    "wechat/example-wechat-records.csv": ("quarantined", 0, "-", PERSONAL),
}  # fmt: skip
DETAIL = "a transaction detail report, not a settlement report"
# Reports of the three processors: (status, entries, balance, part of the reason). Most are cut by hand to a few lines.
REPORTS = {
    "Adyen": {
        "payments_accounting_report_chargeback.csv": ("ok", 1, "-", None),
        "payments_accounting_report_gravy_chargeback.csv": ("quarantined", 0, "-", "column twice in the header"),
        # Of its four rows the settled one is sent on; received, authorised and sent for settlement move no money.
        "payments_accounting_report_nyce.csv": ("ok", 4, "-", None),
        "settlement_detail_report_chargeback.csv": ("quarantined", 3, "off 8.83", "SPLIT_MISMATCH"),
        "settlement_detail_report_chargeback_reversed.csv": ("ok", 1, "-", None),
        "settlement_detail_report_deposit_correction.csv": ("ok", 2, "-", None),
        "settlement_detail_report_donation-ach.csv": ("ok", 2, "ok", None),
        "settlement_detail_report_donation-ideal.csv": ("quarantined", 2, "off -4.67", "SPLIT_MISMATCH"),
        "settlement_detail_report_donation.csv": ("ok", 2, "ok", None),
        "settlement_detail_report_donation_reordered.csv": ("ok", 2, "ok", None),
        "settlement_detail_report_emptynetcredit.csv": ("ok", 1, "-", None),
        "settlement_detail_report_ignore.csv": ("ok", 2, "ok", None),
        "settlement_detail_report_invoice_deduction.csv": ("ok", 2, "-", None),
        "settlement_detail_report_refund.csv": ("quarantined", 3, "off 6.83", "SPLIT_MISMATCH"),
    },
    "Stripe": {
        "payments_activity.csv": ("ok", 2, "-", None),
        # The payout's line was written by hand as a positive one: with it the batch does not come to zero.
        "settlement_api.csv": ("quarantined", 2, "off -38.10", "SPLIT_MISMATCH"),
        "settlement_report.csv": ("quarantined", 6, "-", "expected gross 24 less fee 0, found '23.05'"),
        "settlement_report_giving_basket.csv": ("ok", 2, "-", None),
        "settlement_report_with_customer_data.csv": ("ok", 3, "-", None),
    },
    "PayPal": {
        "sar_classic_subscr_cancel.csv": ("quarantined", 0, "-", NOT_OURS),
        "sar_classic_subscr_signup.csv": ("quarantined", 0, "-", NOT_OURS),
        "stl.csv": ("quarantined", 5, "-", "fees in AUD differ from the lines"),
        "stl_brl_refund.csv": ("quarantined", 3, "-", "the report is cut"),
        "stl_chargeback_reversal.csv": ("quarantined", 0, "-", DETAIL),
        "stl_chargeback_with_fee.csv": ("quarantined", 0, "-", DETAIL),
        "stl_currency_convert.csv": ("quarantined", 3, "-", "the report is cut"),
        "stl_dr_payment.csv": ("ok", 2, "ok", None),
        "stl_payout_currency_convert.csv": ("ok", 3, "ok", None),
        **dict.fromkeys(
            (
                "trr_dr_payment.csv", "trr_express_checkout_donation.csv", "trr_express_checkout_donation_denied.csv",
                "trr_express_checkout_recurring_donation.csv", "trr_express_checkout_recurring_refund.csv",
                "trr_express_checkout_refund.csv", "trr_express_with_non_data_rows.csv", "trr_give_lively.csv",
                "trr_giving_fund.csv", "trr_grant.csv", "trr_gravy_donation.csv", "trr_void.csv",
            ),
            ("quarantined", 0, "-", DETAIL),
        ),
    },
}  # fmt: skip


def check(found: dict[str, Any], status: str, entries: int, balance: str, reason: str | None) -> None:
    assert (found["status"], found["entries"], found["balance"]) == (status, entries, balance), found["reason"]
    assert (found["reason"] is None) == (reason is None)
    assert reason is None or reason in found["reason"]


@pytest.mark.parametrize("name", sorted(BAI2))
def test_bai2(name: str) -> None:
    (path,) = (SAMPLES / "bai2").rglob(name)
    status, statements, entries, balance, reason = BAI2[name]
    found = read_file(path)
    check(found, status, entries, balance, reason)
    assert found["statements"] == statements


@pytest.mark.parametrize(("processor", "name"), [(p, name) for p, names in REPORTS.items() for name in names])
def test_settlement_reports(processor: str, name: str) -> None:
    check(read_file(WIKIMEDIA / processor / "Tests" / "Data" / name), *REPORTS[processor][name])


@pytest.mark.parametrize("end", sorted(DECLARED))
def test_declared_reports(end: str) -> None:
    (path,) = [path for path in (SAMPLES / "psp").rglob("*.*") if str(path).endswith(end)]
    check(read_file(path), *DECLARED[end])


def test_no_report_of_the_three_processors_is_left_out() -> None:
    for processor, expected in REPORTS.items():
        assert {path.name for path in (WIKIMEDIA / processor / "Tests" / "Data").iterdir()} == set(expected)
    assert {path.name for path in (SAMPLES / "bai2").rglob("*.bai2")} == set(BAI2)
    for folder in ("Braintree", "CheckoutCom", "Trustly", "dlocal"):
        there = {f"{folder}/Tests/Data/{path.name}" for path in (WIKIMEDIA / folder / "Tests" / "Data").iterdir()}
        assert there == {end for end in DECLARED if end.startswith(folder)}


def test_no_sample_of_any_kind_crashes_a_reader() -> None:
    outcomes = [read_file(path) for path in sorted(SAMPLES.rglob("*")) if path.is_file()]
    assert len(outcomes) >= 300
    for outcome in outcomes:
        assert (outcome["status"] == "quarantined") == (outcome["reason"] is not None)
        assert outcome["status"] == "ok" or "Remedy:" in outcome["reason"]
