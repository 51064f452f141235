"""Golden scenarios: small CSVs become batches with control totals, closes run over them, results are split again.

A scenario is a folder ``<name>/given/<close>/<table>.csv`` with the columns that matter; everything else has a
default. All scenarios share the closes: their ids carry the scenario's name, every file belongs to one scenario,
each has its own processor account. Totals are computed here, not by the code that loads real data.

``is_deleted`` makes a row a tombstone. Lines, entries and statements may name their ``file`` (several arrive for one
close, in the order of the rows) and their ``document`` (by default one of this close alone): the same line of the
same document in a later file is its next version. A tombstone gives the negative ``line_no`` of the line it ends, and
``occurrence_no`` says which of several under one key a row is, as the loader does.

``actions.csv`` is what people decided before a close: ``items`` are references or keys of items of earlier closes, with
a slash between them, or keys that nothing has; a key may spell its file by name. They are written down without the
checks of the command line.

``seeds/<seed>.csv`` are rows of the rules that a scenario has besides those of the project, for processors,
currencies and accounts that no other scenario has.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from tieout.load_notes import note

SCENARIOS = Path(__file__).parent / "scenarios"
ZONE = ZoneInfo("Europe/Amsterdam")
# A Tuesday, the Wednesday after it, and Friday.
CLOSES = (date(2026, 10, 20), date(2026, 10, 21), date(2026, 10, 23))
BANKS = {
    "EUR": "NL91ABNA0417164300", "GBP": "GB29NWBK60161331926819", "USD": "7700012345",
    "JPY": "JP00051234567", "KWD": "KW81CBKU0000000000001234560101", "NZD": "NZ020500123456700",
}  # fmt: skip
OPENING_MINOR = 1_000_000
RATES = {"USD": "1.1", "GBP": "0.85", "JPY": "170", "SEK": "11", "NZD": "1.9"}
# Ids that name their scenario; references of payouts and the accounts above stay as they are.
IDS = ("payment_id", "capture_id", "refund_id", "dispute_id", "payout_id", "fx_conversion_id", "merchant_reference",
       "psp_reference", "original_psp_reference", "processor_account", "bank_account", "market",
       "attempt_id")  # fmt: skip
PAYOUT_REFERENCE = re.compile(r"TX\d+|po_\w+|\d{13}")

# table -> (key columns that are hashed, amount column -> currency column)
DECLARED: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "merchants": (("merchant_id",), {}),
    "payment_methods": (("payment_method_id",), {}),
    "fee_schedules": (("fee_schedule_id",), {}),
    "payment_attempts": (("attempt_id",), {}),
    "payments": (("payment_id",), {"amount_minor": "currency"}),
    "captures": (("capture_id",), {"amount_minor": "currency"}),
    "refunds": (("refund_id",), {"amount_minor": "currency"}),
    "disputes": (("dispute_id", "stage"), {"amount_minor": "currency"}),
    "payouts": (("payout_id",), {"amount_minor": "currency", "fee_minor": "currency"}),
    "ledger_entries": (("ledger_entry_id",), {"amount_minor": "currency"}),
    "fx_conversions": (
        ("fx_conversion_id",), {"sell_amount_minor": "sell_currency", "buy_amount_minor": "buy_currency"},
    ),
    "settlement_lines": (
        ("line_no",), {
            "gross_minor": "gross_currency", "fee_minor": "net_currency", "interchange_minor": "net_currency",
            "scheme_fee_minor": "net_currency", "net_minor": "net_currency",
        },
    ),
    "bank_entries": (("line_no",), {"amount_minor": "currency"}),
    "invoice_lines": (("line_no",), {"amount_minor": "currency"}),
    "bank_statements": (("statement_no",), {"opening_minor": "currency", "closing_minor": "currency"}),
    "fx_rates": (("rate_source", "currency", "rate_date"), {}),
}  # fmt: skip
FILE_TABLES = ("settlement_lines", "invoice_lines", "bank_entries", "bank_statements", "fx_rates")

Row = dict[str, Any]


@dataclass(frozen=True)
class File:
    """One file of one scenario (or of nobody: the statements and the rates) with the rows of one table."""

    name: str
    origin: str
    origin_account: str | None
    content_date: date | None
    table: str
    rows: Sequence[Row]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


def scenario_names() -> list[str]:
    """Every scenario's folder."""
    return sorted(path.name for path in SCENARIOS.iterdir() if path.is_dir())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV; none when there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def ledger_rows(close_no: int) -> dict[str, list[Row]]:
    """What the payment system shows at a close, all scenarios together: table -> rows."""
    found: dict[str, list[Row]] = defaultdict(list)
    for name in scenario_names():
        given = SCENARIOS / name / "given" / str(close_no)
        for table in ("payment_attempts", "captures", "refunds", "disputes", "payouts", "fx_conversions"):
            found[table] += [_ledger_row(name, table, row) for row in read_csv(given / f"{table}.csv")]
        payments = {row["payment_id"]: row for row in read_csv(given / "payments.csv")}
        known = {f"{name}/{payment_id}" for payment_id in payments}
        found["payments"] += [_payment(name, row) for row in payments.values()]
        for row in itertools.chain(found["captures"], found["refunds"], found["disputes"], found["payment_attempts"]):
            if row["payment_id"].startswith(f"{name}/") and row["payment_id"] not in known:
                known.add(row["payment_id"])
                order = row["payment_id"].removeprefix(f"{name}/")
                found["payments"].append(
                    _payment(name, {
                        "payment_id": order, "processor": row["processor"], "currency": row.get("currency", "EUR"),
                    })
                )
    # Visa has a contract, diners one that passes interchange and scheme fee through, amex one that is gone at the
    # second close, and what jcb costs is invoiced: other lines may carry any fee. Two merchants get other terms then.
    if close_no == 1:
        found["merchants"] = [
            _merchant("principal", "principal", 0), _merchant("platform", "platform", 250),
            _merchant("renegotiated", "platform", 200), _merchant("converted", "principal", 0),
        ]  # fmt: skip
        found["payment_methods"] = [_method("visa"), _method("mastercard"), _method("amex"), _method("diners"),
                                    _method("jcb")]  # fmt: skip
        plus = {"pricing": "interchange_plus_plus", "pct_bps": "25", "fixed_minor": 5, "minimum_minor": 12}
        found["fee_schedules"] = [
            _contract("visa"), _contract("amex"), {**_contract("diners"), **plus},
            {**_contract("jcb"), "billing": "invoice"},
        ]  # fmt: skip
    if close_no == 2:
        found["fee_schedules"] = [{**_contract("amex"), "is_deleted": True}]
        found["merchants"] = [_merchant("renegotiated", "platform", 300), _merchant("converted", "platform", 100)]
    return {table: rows for table, rows in found.items() if rows}


def files(close_no: int, balances: dict[str, int]) -> Iterator[File]:
    """The files that arrive for a close; ``balances`` (bank account -> minor units) is carried on."""
    booked: dict[str, int] = defaultdict(int)
    for name in scenario_names():
        given = SCENARIOS / name / "given" / str(close_no)
        lines: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in read_csv(given / "settlement_lines.csv"):
            line = _line(name, row, close_no)
            lines[line["file"], line["processor"], line["processor_account"]].append(line)
        for (file, processor, account), rows in lines.items():
            until = max(row["booked_at"].astimezone(ZONE).date() for row in rows)
            yield File(f"{account}/{processor}/{file}", processor, account, until, "settlement_lines", rows)
        invoices: dict[str, list[Row]] = defaultdict(list)
        for row in read_csv(given / "invoice_lines.csv"):
            invoices[row.get("file") or str(close_no)].append(_invoice_line(name, row))
        for file, rows in invoices.items():
            yield File(f"{name}/invoice/{file}", rows[0]["processor"], None, None, "invoice_lines", rows)
        for table in ("bank_entries", "bank_statements"):
            booked_by: dict[str, list[Row]] = defaultdict(list)
            for row in read_csv(given / f"{table}.csv"):
                entry = _entry(name, row, close_no) if table == "bank_entries" else _statement(name, row, close_no)
                booked_by[entry["file"]].append(entry)
                if table == "bank_entries":
                    booked[entry["bank_account"]] += entry["amount_minor"]
            for file, rows in booked_by.items():
                # A statement and its entries come in one file; statements of the shared accounts are nobody's.
                yield File(f"{name}/bank/{file}", "bank", None, CLOSES[close_no - 1], table, rows)
    for currency, account in BANKS.items():
        opening = balances.get(account, OPENING_MINOR)
        balances[account] = opening + booked[account]
        statement = {
            "statement_no": 1, "bank_account": account, "currency": currency, "statement_reference": str(close_no),
            "sequence_number": close_no, "opening_date": CLOSES[close_no - 1], "opening_minor": opening,
            "closing_date": CLOSES[close_no - 1], "closing_minor": balances[account],
            "row_key": row_key(account, currency, close_no),
        }  # fmt: skip
        name = f"{account}/{close_no}"
        yield File(name, "bank", account, CLOSES[close_no - 1], "bank_statements", [statement])
    if close_no == 1:
        rates = [
            {"rate_source": "ecb", "base_currency": "EUR", "currency": currency, "rate_date": date(2026, 10, 19),
             "rate": rate} for currency, rate in RATES.items()
        ]  # fmt: skip
        yield File("rates", "ecb", None, date(2026, 10, 19), "fx_rates", rates)


def load(cursor: Cursor, close_no: int, balances: dict[str, int]) -> None:
    """Enter everything given for a close as batches: one a ledger table, one a file."""
    if close_no == 1:
        declare(cursor)
    end = datetime.combine(CLOSES[close_no - 1] + timedelta(days=1), time(), ZONE)
    for table, rows in ledger_rows(close_no).items():
        _batch(cursor, "payments", table, f"payments_{table}", rows, end, None)
    before = dict(balances)
    seen: dict[str, int] = {}
    for file in files(close_no, balances):
        if file.name not in seen:
            seen[file.name] = _file(cursor, file, end)
        file_id = seen[file.name]
        rows = [{"file_id": file_id, "line_no": number, **row} for number, row in enumerate(file.rows, 1)]
        _batch(cursor, "files", file.table, file.table, rows, end, file_id)
        if file.table == "settlement_lines":
            _documents(cursor, file, file_id, end)
    book = _book(close_no, before, balances)
    _batch(cursor, "payments", "ledger_entries", "payments_ledger_entries", book, end, None)
    decide(cursor, close_no)


def _book(close_no: int, before: dict[str, int], after: dict[str, int]) -> list[Row]:
    """What the payment system's own book moves on the accounts that all scenarios share: as much as the bank does."""
    booked_at = datetime.combine(CLOSES[close_no - 1], time(12), ZONE)
    return [
        {"ledger_entry_id": f"{account}/{close_no}", "bank_account": account, "currency": currency,
         "amount_minor": after[account] - before.get(account, 0), "source_type": "all", "source_id": account,
         "booked_at": booked_at}
        for currency, account in BANKS.items()
        if after[account] != before.get(account)
    ]  # fmt: skip


def decide(cursor: Cursor, close_no: int) -> None:
    """Write down what people decided before a close, in the order of the scenarios; the actor is the scenario."""
    for name in scenario_names():
        for row in read_csv(SCENARIOS / name / "given" / str(close_no) / "actions.csv"):
            cursor.execute(
                "insert into ops.break_actions (book, kind, item_keys, owner, reason, actor, as_of) "
                "values ('global', %s, %s, %s, %s, %s, now())",
                (
                    row["kind"], [_item_key(cursor, name, reference) for reference in row["items"].split(" / ")],
                    row.get("owner") or None, row.get("reason") or "because", name,
                ),
            )  # fmt: skip


def declare(cursor: Cursor) -> None:
    """Add the rules that the scenarios have of their own to those that are deployed."""
    for name in scenario_names():
        for path in sorted((SCENARIOS / name / "seeds").glob("*.csv")):
            for row in read_csv(path):
                filled = _filled(name, row, {})
                statement = sql.SQL("insert into {} ({}) values ({})").format(
                    sql.Identifier("rules", path.stem),
                    sql.SQL(", ").join(map(sql.Identifier, filled)),
                    sql.SQL(", ").join([sql.Placeholder()] * len(filled)),
                )
                cursor.execute(statement, list(filled.values()))


def _item_key(cursor: Cursor, name: str, reference: str) -> str:
    """The item of a scenario that the earlier closes call so; the reference itself where there is none."""
    key = reference
    cursor.execute("select name, left(sha256, 16) from ops.files where name like %s", (f"{name}/%",))
    for file, line_key in cursor.fetchall():
        key = key.replace(file.removeprefix(f"{name}/"), line_key)
    cursor.execute(
        "select distinct item_key from reconciliation.reconciliation_items "
        "where item_key = %(key)s or source_reference like %(like)s "
        "and %(reference)s in (replace(source_reference, %(name)s, ''), replace(item_key, %(name)s, ''))",
        {"key": key, "like": f"%{name}/%", "name": f"{name}/", "reference": reference},
    )
    found = [item_key for (item_key,) in cursor.fetchall()]
    assert len(found) <= 1, f"{name} has several items called {reference}: {found}"
    return found[0] if found else reference


def _file(cursor: Cursor, file: File, end: datetime) -> int:
    """Enter a file that arrived; its number."""
    cursor.execute(
        "insert into ops.files (sha256, name, uri, size_bytes, format, status, origin, origin_account, "
        "content_date, seen_at) values (%s, %s, %s, 1, 'csv', 'loaded', %s, %s, %s, %s) returning file_id",
        (file.sha256, file.name, file.name, file.origin, file.origin_account, file.content_date, end),
    )
    ((file_id,),) = cursor.fetchall()
    return int(file_id)


def _documents(cursor: Cursor, file: File, file_id: int, end: datetime) -> None:
    """Enter the reports that a file brings as versions, and note those that came before."""
    reports = {row["document"] for row in file.rows if row["document_no"] is not None}
    for identity in sorted(f"{file.origin_account}|{report}" for report in reports):
        cursor.execute(
            "update ops.documents set superseded_by = %s where identity = %s and superseded_by is null "
            "returning version", (file_id, identity),
        )  # fmt: skip
        earlier = cursor.fetchone()
        cursor.execute(
            "insert into ops.documents (kind, identity, version, file_id, document_no) "
            "values ('settlement_batch', %s, %s, %s, 1)", (identity, earlier[0] + 1 if earlier else 1, file_id),
        )  # fmt: skip
        if earlier:
            note(
                cursor, source="files", table_name=file.table, kind="file_superseded", severity="warn",
                message=f"{file.name} takes the place of an earlier file", as_of=end, file_id=file_id,
                batch_id=_newest_batch(cursor),
            )  # fmt: skip


def _newest_batch(cursor: Cursor) -> int:
    cursor.execute("select max(batch_id) from ops.batches")
    ((batch_id,),) = cursor.fetchall()
    return int(batch_id)


def _batch(
    cursor: Cursor, source: str, table: str, raw: str, rows: Sequence[Row], end: datetime, file_id: int | None
) -> None:
    key, amounts = DECLARED[table]
    interval = (None, None) if file_id else (end - timedelta(days=7), end)
    cursor.execute(
        "insert into ops.batches "
        "(source, table_name, interval_start, interval_end, file_id, row_count, key_hash, as_of) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s) returning batch_id",
        (source, table, *interval, file_id, len(rows), key_hash(rows, key), end),
    )
    ((batch_id,),) = cursor.fetchall()
    for (measure, currency), (count, total) in totals(rows, amounts).items():
        cursor.execute("insert into ops.batch_totals values (%s, %s, %s, %s, %s)",
                       (batch_id, measure, currency, count, total))  # fmt: skip
    cursor.execute("select column_name from information_schema.columns where table_schema = 'raw' and table_name = %s",
                   (raw,))  # fmt: skip
    columns = {name for (name,) in cursor.fetchall()}
    for row in rows:
        names = ["batch_id", *(name for name in row if name in columns)]
        statement = sql.SQL("insert into {} ({}) values ({})").format(
            sql.Identifier("raw", raw),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        )
        cursor.execute(statement, [batch_id, *(row[name] for name in names[1:])])
        if row.get("occurrence_no"):
            cursor.execute("insert into ops.repeated_rows values (%s, %s, %s)",
                           (batch_id, row["line_no"], row["occurrence_no"]))  # fmt: skip


def row_key(*parts: object) -> str:
    """What every version of a row has in common: md5 of the parts, nothing for null."""
    return hashlib.md5("|".join("" if part is None else str(part) for part in parts).encode()).hexdigest()


def key_hash(rows: Iterable[Row], key: Sequence[str]) -> int:
    """Sum over the rows of the first 60 bits of md5 of the key, its parts joined by a bar."""
    texts = ("|".join(str(row[column]) for column in key) for row in rows)
    return sum(int(hashlib.md5(text.encode()).hexdigest()[:15], 16) for text in texts)


def totals(rows: Iterable[Row], amounts: dict[str, str]) -> dict[tuple[str, str], tuple[int, int]]:
    """(amount column, currency) -> (rows that carry it, sum of its minor units)."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        for amount, currency in amounts.items():
            if row.get(amount) is None:
                continue
            count, total = found.get((amount, row[currency]), (0, 0))
            found[amount, row[currency]] = (count + 1, total + row[amount])
    return found


def _filled(name: str, row: dict[str, str], defaults: Row) -> Row:
    """A row with defaults for the columns it lacks; empty means null; ids carry the scenario's name."""
    filled: Row = {**defaults, **{column: value or None for column, value in row.items()}}
    for column, value in filled.items():
        if value is None:
            continue
        if column.endswith("_minor") or column in ("line_no", "occurrence_no", "statement_no"):
            filled[column] = int(value)
        elif column.endswith("_at"):
            filled[column] = _instant(str(value))
        elif column in IDS and not PAYOUT_REFERENCE.fullmatch(value) and value not in BANKS.values():
            filled[column] = f"{name}/{value}"
    return filled


def _instant(text: str) -> datetime:
    """A local date or time of the book's zone; a date alone is its noon."""
    moment = datetime.fromisoformat(text if len(text) > 10 else f"{text} 12:00")
    return moment.replace(tzinfo=ZONE)


def _ledger_row(name: str, table: str, row: dict[str, str]) -> Row:
    key = DECLARED[table][0][0]
    happened = {
        "payment_attempts": "attempted_at", "captures": "captured_at", "refunds": "refunded_at",
        "disputes": "stage_at", "payouts": "sent_at", "fx_conversions": "executed_at",
    }[table]  # fmt: skip
    defaults: Row = {"updated_at": row[happened]}
    if table == "payment_attempts":
        defaults |= {"processor": "adyen", "payment_id": "order", "attempt_no": 1, "outcome": "authorised",
                     "latency_ms": 100, "three_ds": "none"}  # fmt: skip
    else:
        defaults |= {"currency": "EUR"}
    if table in ("captures", "refunds", "disputes"):
        defaults |= {"processor": "adyen", "payment_id": "order", "capture_id": "capture", "psp_reference": row[key]}
    if table == "refunds":
        defaults |= {"status": "succeeded"}
    if table == "disputes":
        defaults |= {"reason_code": "10.4", "is_fraud": "true"}
    if table == "payouts":
        currency = row.get("currency", "EUR")
        defaults |= {"merchant_id": "platform", "bank_account": BANKS[currency], "fee_minor": 0, "status": "sent",
                     "bank_reference": "PO-1"}  # fmt: skip
    if table == "fx_conversions":
        defaults |= {"sell_bank_account": BANKS[row["sell_currency"]], "buy_bank_account": BANKS[row["buy_currency"]],
                     "rate": "1", "bank_reference": "FX-1", "value_date": row[happened][:10]}  # fmt: skip
    return _filled(name, row, defaults)


def _payment(name: str, row: dict[str, str]) -> Row:
    return _filled(name, row, {
        "merchant_id": "principal", "payment_method_id": "mastercard", "merchant_reference": row["payment_id"],
        "market": "NL", "processor": "adyen", "processor_account": "account", "amount_minor": 1, "currency": "EUR",
        "status": "captured", "created_at": "2026-10-19", "updated_at": "2026-10-19",
    })  # fmt: skip


def _merchant(merchant_id: str, model: str, fee_bps: int) -> Row:
    return {
        "merchant_id": merchant_id, "merchant_name": merchant_id, "country": "NL", "model": model,
        "settlement_currency": "EUR", "platform_fee_bps": fee_bps, "created_at": _instant("2026-10-19"),
        "updated_at": _instant("2026-10-19"),
    }  # fmt: skip


def _method(network: str) -> Row:
    return {
        "payment_method_id": network, "token": network, "method_type": "card", "network": network,
        "created_at": _instant("2026-10-19"),
    }  # fmt: skip


def _contract(network: str) -> Row:
    return {
        "fee_schedule_id": network, "processor": "adyen", "method_type": "card", "network": network, "market": "*",
        "fee_type": "processing", "item_type": "capture", "billing": "settlement", "pricing": "blended",
        "tier_basis": "line_amount", "tier_from_minor": 0, "charged_per": "item", "pct_bps": "100", "fixed_minor": 10,
        "minimum_minor": None, "maximum_minor": None, "currency": "EUR", "valid_from": "2026-01-01", "valid_to": None,
        "updated_at": _instant("2026-10-19"),
    }  # fmt: skip


def _line(name: str, row: dict[str, str], close_no: int) -> Row:
    currency = row.get("gross_currency", "EUR")
    filled = _filled(name, row, {
        "processor": "adyen", "processor_account": "account", "record_type": "Settled", "batch_reference": "1",
        "psp_reference": None, "original_psp_reference": None, "merchant_reference": None, "gross_currency": currency,
        "fee_minor": 0, "net_currency": currency, "occurred_at": row["booked_at"], "record": "",
        "file": str(close_no), "document": str(close_no), "document_no": 1,
    })  # fmt: skip
    filled.setdefault("net_minor", filled["gross_minor"] - filled["fee_minor"])
    document: tuple[Any, ...] = (filled["document"], filled["batch_reference"])
    if row.get("document") == "none":
        document, filled["document_no"] = ("none",), None
    if row.get("document") == "id":
        # A line with an id of its own is the same in whatever document, and no two files have one in common here.
        document, filled["document"] = ("id",), f"{filled['file']} of {close_no}"
    filled["row_key"] = row_key(
        filled["processor"], filled["processor_account"], *document, currency, filled["net_currency"],
        filled["record_type"], filled["psp_reference"], filled["original_psp_reference"], filled["merchant_reference"],
    )  # fmt: skip
    return filled


def _invoice_line(name: str, row: dict[str, str]) -> Row:
    filled = _filled(name, row, {
        "processor": "adyen", "processor_account": "account", "invoice_number": "I1", "invoice_date": "2026-10-01",
        "service_month": "2026-09-01", "fee_type": "processing", "currency": "EUR", "record": "", "document_no": 1,
    })  # fmt: skip
    filled["row_key"] = row_key(
        filled["processor"], filled["processor_account"], filled["invoice_number"], filled["service_month"],
        filled["fee_type"], filled.get("description"), filled["currency"],
    )  # fmt: skip
    filled.pop("file", None)
    return filled


def _entry(name: str, row: dict[str, str], close_no: int) -> Row:
    currency = row.get("currency", "EUR")
    filled = _filled(name, row, {
        "statement_no": 1, "bank_account": BANKS[currency], "currency": currency, "is_reversal": "false",
        "value_date": row["booking_date"], "record": "", "file": str(close_no), "document": str(close_no),
    })  # fmt: skip
    # A tombstone's amount is 0: what it was is part of what the entry is.
    amount = filled.pop("was_minor", None) or filled["amount_minor"]
    filled["row_key"] = row_key(
        name, filled["bank_account"], currency, filled["document"], amount, filled["booking_date"],
        filled["value_date"], filled["is_reversal"], filled.get("bank_reference"), filled.get("remittance"),
    )  # fmt: skip
    return filled


def _statement(name: str, row: dict[str, str], close_no: int) -> Row:
    """A statement of an account that only this scenario has."""
    filled = _filled(name, row, {
        "statement_no": 1, "currency": "EUR", "opening_date": row["closing_date"],
        "statement_reference": row["document"], "file": str(close_no),
    })  # fmt: skip
    filled["row_key"] = row_key(filled["bank_account"], "EUR", filled["document"])
    return filled
