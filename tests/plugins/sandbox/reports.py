"""Reads the sandbox's files with the standard library: no code of the readers, none of the writers."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

EXPONENT = {"EUR": 2, "GBP": 2, "SEK": 2, "USD": 2, "JPY": 0, "KWD": 3, "NZD": 2}
PAYOUTS = ("MerchantPayout", "payout", "T0400")
FEES = ("Fee", "fee", "T0106")


@dataclass(frozen=True)
class Row:
    """A settlement line, amounts in minor units and positive towards us."""

    line_no: int
    processor: str
    account: str
    batch: str
    record_type: str
    psp_reference: str
    merchant_reference: str
    gross: int
    gross_currency: str
    fee: int
    net: int
    net_currency: str


@dataclass(frozen=True)
class Booked:
    """A bank entry."""

    reference: str
    amount: int
    text: str
    is_reversal: bool


@dataclass(frozen=True)
class BankFile:
    """A bank statement."""

    account: str
    currency: str
    number: int
    day: date
    opening: int
    closing: int
    entries: tuple[Booked, ...]


def minor(text: str, currency: str) -> int:
    value = Decimal(text.replace(",", ".")) * 10 ** EXPONENT[currency]
    assert value == value.to_integral_value(), f"{text} has more decimals than {currency}"
    return int(value)


def _two(debit: str, credit: str, currency: str) -> int:
    return minor(credit or "0", currency) - minor(debit or "0", currency)


def adyen(path: Path) -> list[Row]:
    rows = []
    with path.open(newline="") as file:
        for number, r in enumerate(csv.DictReader(file), 2):
            assert None not in r, f"{path.name}, line {number} is longer than its header"
            net_currency = r["Net Currency"]
            net = _two(r["Net Debit (NC)"], r["Net Credit (NC)"], net_currency)
            parts = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")
            fee = sum(minor(r[part] or "0", net_currency) for part in parts)
            gross_currency = r["Gross Currency"] or net_currency
            gross = net + fee
            if r["Gross Currency"]:
                gross = _two(r["Gross Debit (GC)"], r["Gross Credit (GC)"], gross_currency)
            reference = r["Modification Reference"] or r["Psp Reference"]
            rows.append(
                Row(
                    number, "adyen", r["Merchant Account"], r["Batch Number"], r["Type"],
                    reference.split()[0] if r["Type"] == "MerchantPayout" else reference, r["Merchant Reference"],
                    gross, gross_currency, fee, net, net_currency,
                )
            )  # fmt: skip
    return rows


def stripe(path: Path) -> list[Row]:
    rows = []
    with path.open(newline="") as file:
        for number, r in enumerate(csv.DictReader(file), 2):
            currency = r["currency"].upper()
            gross, fee, net = (minor(r[name], currency) for name in ("gross", "fee", "net"))
            rows.append(
                Row(
                    number, "stripe", r["gateway_account"], r["automatic_payout_id"], r["reporting_category"],
                    r["source_id"], r["payment_metadata[external_identifier]"], gross, currency, fee, net, currency,
                )
            )  # fmt: skip
    return rows


def paypal(path: Path) -> tuple[list[Row], list[list[str]]]:
    """The transactions, and all other rows as they stand."""
    rows, others = [], []
    account = batch = ""
    with path.open(newline="") as file:
        for number, r in enumerate(csv.reader(file), 1):
            if r[0] != "SB":
                others.append(r)
                if r[0] == "SH":
                    account, batch = r[3], r[1][:10]
                continue
            currency = r[10]
            unit = 10 ** (2 - EXPONENT[currency]) if EXPONENT[currency] < 2 else 1
            assert int(r[9]) % unit == 0
            gross = int(r[9]) // unit * (-1 if r[8] == "DR" else 1)
            fee = int(r[12] or 0) // unit
            reference = r[18] if r[5] == "T0400" else r[1]
            rows.append(
                Row(
                    number, "paypal", account, batch, r[5], reference, r[2], gross, currency, fee, gross - fee, currency
                )
            )
    return rows, others


def settlement(path: Path) -> list[Row]:
    if path.parent.name == "paypal":
        return paypal(path)[0]
    return adyen(path) if path.parent.name == "adyen" else stripe(path)


def camt(path: Path) -> BankFile:
    root = ElementTree.parse(path).getroot()
    ns = {"c": root.tag[1:].partition("}")[0]}
    assert ns["c"] == "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
    statement = root.find(".//c:Stmt", ns)
    assert statement is not None

    def text(element: ElementTree.Element, where: str) -> str:
        return element.findtext(where, "", ns)

    def signed(element: ElementTree.Element) -> int:
        sign = 1 if text(element, "c:CdtDbtInd") == "CRDT" else -1
        return sign * minor(text(element, "c:Amt"), text(statement, "c:Acct/c:Ccy"))

    balances = {text(b, "c:Tp/c:CdOrPrtry/c:Cd"): signed(b) for b in statement.findall("c:Bal", ns)}
    entries = tuple(
        Booked(
            text(e, "c:AcctSvcrRef"),
            signed(e),
            text(e, ".//c:RmtInf/c:Ustrd"),
            text(e, "c:RvslInd") == "true",
        )
        for e in statement.findall("c:Ntry", ns)
    )
    return BankFile(
        text(statement, "c:Acct/c:Id/c:IBAN"), text(statement, "c:Acct/c:Ccy"),
        int(text(statement, "c:ElctrncSeqNb")), date.fromisoformat(text(statement, "c:Bal/c:Dt/c:Dt")),
        balances["OPBD"], balances["CLBD"], entries,
    )  # fmt: skip


def mt940(path: Path) -> BankFile:
    fields = re.findall(r"^:(\d\d[A-Z]?):(.*?)\r\n(?=:|-)", path.read_bytes().decode("ascii"), re.M | re.S)
    balances = {}
    entries: list[Booked] = []
    account, number, day, currency = "", 0, date.min, ""
    for tag, value in fields:
        if tag == "25":
            account = value
        elif tag == "28C":
            number = int(value.partition("/")[0])
        elif tag in ("60F", "62F"):
            found = re.fullmatch(r"([CD])(\d{6})([A-Z]{3})(\d+,\d*)", value)
            assert found, value
            currency = found[3]
            day = datetime.strptime(found[2], "%y%m%d").date()
            balances[tag] = minor(found[4], currency) * (1 if found[1] == "C" else -1)
        elif tag == "61":
            found = re.fullmatch(r"\d{10}(R?[CD])(\d+,\d*)N[A-Z]{3}(.{1,16})//(.{1,16})", value)
            assert found, value
            sign = 1 if found[1] in ("C", "RD") else -1
            entries.append(Booked(found[4], sign * minor(found[2], currency), "", found[1].startswith("R")))
        elif tag == "86":
            last = entries.pop()
            entries.append(Booked(last.reference, last.amount, value.replace("\r\n", ""), last.is_reversal))
    return BankFile(account, currency, number, day, balances["60F"], balances["62F"], tuple(entries))


def bai2(path: Path) -> BankFile:
    records = [line.removesuffix("/").split(",") for line in path.read_text().splitlines()]
    amounts, entries, opening, closing = [], [], 0, 0
    for record in records:
        if record[0] == "03":
            opening, closing = int(record[4]), int(record[8])
            account, currency = record[1], record[2]
            amounts += [opening, closing]
        elif record[0] == "88" and record[1] == "100":
            amounts += [int(record[2]), int(record[6])]
        elif record[0] == "16":
            sign = 1 if 100 <= int(record[1]) < 400 else -1
            amounts.append(int(record[2]))
            entries.append(Booked(record[4], sign * int(record[2]), "", False))
        elif record[0] == "88":
            entries.append(Booked(entries[-1].reference, entries.pop().amount, ",".join(record[1:]), False))
    total = str(sum(amounts))
    count = len(records)
    assert records[-3] == ["49", total, str(count - 4)], "account trailer"
    assert records[-2] == ["98", total, "1", str(count - 2)], "group trailer"
    assert records[-1] == ["99", total, "1", str(count)], "file trailer"
    day = datetime.strptime(records[1][4], "%y%m%d").date()
    return BankFile(account, currency, int(records[0][5]), day, opening, closing, tuple(entries))


def bank(path: Path) -> BankFile:
    readers = {".xml": camt, ".sta": mt940, ".bai": bai2}
    return readers[path.suffix](path)
