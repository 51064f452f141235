"""The files add up: batches to payouts, payouts to bank entries, statements to each other."""

from __future__ import annotations

import csv
from collections import defaultdict
from datetime import date
from itertools import pairwise
from pathlib import Path

from . import reports
from .conftest import World

TROUBLED_AT_THE_BANK = {"PSP_NOT_BANK", "BANK_UNDER", "SPLIT_INCOMPLETE", "BANK_DUPLICATE", "PAYOUT_RETURNED"}


def files_truth(world: World) -> list[dict[str, str]]:
    with (world.state / "sandbox" / "files.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def whole_reports(world: World) -> list[Path]:
    """Every settlement report, each content once, without the one that was cut off."""
    odd = {r["file"] for r in files_truth(world) if r["status"] in ("quarantined", "duplicate")}
    paths = [path for origin in ("adyen", "stripe", "paypal") for path in sorted((world.landing / origin).iterdir())]
    return [path for path in paths if path.name not in odd]


def bank_files(world: World) -> list[reports.BankFile]:
    return [reports.bank(path) for path in sorted((world.landing / "bank").iterdir())]


def test_lines_of_a_batch_come_to_its_payout(world: World) -> None:
    signs = set()
    for path in whole_reports(world):
        sums: dict[tuple[str, str, str], int] = defaultdict(int)
        payouts: dict[tuple[str, str, str], int] = {}
        for row in reports.settlement(path):
            key = (row.account, row.batch, row.net_currency)
            if row.record_type in reports.PAYOUTS:
                assert key not in payouts, f"{path.name}: two payouts for {key}"
                payouts[key] = row.net
            else:
                if row.gross_currency == row.net_currency:
                    assert row.net == row.gross - row.fee, f"{path.name}, line {row.line_no}"
                sums[key] += row.net
        assert {key: -net for key, net in payouts.items()} == {key: net for key, net in sums.items() if net}
        signs |= {(key[2], net < 0) for key, net in payouts.items()}
    assert ("NZD", False) in signs, "no negative batch"
    assert ("SEK", True) not in signs


def test_swedish_sales_are_converted(world: World) -> None:
    rows = [row for path in whole_reports(world) for row in reports.settlement(path) if row.gross_currency == "SEK"]
    assert rows
    for row in rows:
        assert row.net_currency == "EUR"
        assert 0.08 < (row.net + row.fee) / row.gross < 0.1


def test_paypal_footers_prove_the_lines(world: World) -> None:
    for path in sorted((world.landing / "paypal").iterdir()):
        with path.open(newline="") as file:
            lines = [r for r in csv.reader(file) if r[0] == "SB"]
        rows, others = reports.paypal(path)
        assert [r[0] for r in others[:4]] == ["RH", "FH", "SH", "CH"]
        counts = {r[0]: r[1] for r in others if r[0] in ("SC", "RC", "FF")}
        assert counts == dict.fromkeys(("SC", "RC", "FF"), str(len(rows)))
        for kind in ("SF", "RF"):
            footers = {r[1]: r for r in others if r[0] == kind}
            assert footers.keys() == {row.net_currency for row in rows}
            for currency, footer in footers.items():
                mine = [r for r in lines if r[10] == currency]
                credit = sum(int(r[9]) for r in mine if r[8] == "CR")
                debit = sum(int(r[9]) for r in mine if r[8] == "DR")
                fees = sum(int(r[12] or 0) for r in mine)
                assert footer[2:6] == [str(credit), str(debit), "0", str(fees)]
                # Swept to nil at the end of the day.
                assert credit - debit - fees == 0


def test_statements_run_on(world: World) -> None:
    by_account: dict[str, list[reports.BankFile]] = defaultdict(list)
    for statement in bank_files(world):
        assert statement.opening + sum(entry.amount for entry in statement.entries) == statement.closing
        by_account[statement.account].append(statement)
    assert {account: len(found) for account, found in by_account.items()} == {
        "NL91ABNA0417164300": 10,
        "GB29NWBK60161331926819": 10,
        "7700012345": 10,
        "JP00051234567": 10,
        "KW81CBKU0000000000001234560101": 9,
        "NZ020500123456700": 9,
    }
    for statements in by_account.values():
        statements.sort(key=lambda statement: statement.day)
        for earlier, later in pairwise(statements):
            assert later.opening == earlier.closing
            assert later.number == earlier.number + 1
        references = [entry.reference for statement in statements for entry in statement.entries]
        assert len(references) == len(set(references))


def test_kuwait_works_on_sunday_and_new_zealand_rests_on_labour_day(world: World) -> None:
    days = defaultdict(set)
    for statement in bank_files(world):
        days[statement.currency].add(statement.day)
    assert date(2026, 10, 25) in days["KWD"]
    assert not days["KWD"] & {date(2026, 10, 23), date(2026, 10, 24), date(2026, 10, 30)}
    assert date(2026, 10, 26) not in days["NZD"]
    assert date(2026, 10, 26) in days["EUR"]


def test_payouts_reach_the_bank_as_announced_except_where_planted(world: World) -> None:
    with (world.state / "sandbox" / "truth.csv").open(newline="") as file:
        truth = [r for r in csv.DictReader(file) if r["reconciliation"] == "processor_bank"]
    troubled = {r["reference"].partition(":")[2] for r in truth if r["kind"] in TROUBLED_AT_THE_BANK}
    waiting = {r["reference"].partition(":")[2] for r in truth if r["clears_on"] > "2026-10-30"}
    entries = [(s.currency, e) for s in bank_files(world) for e in s.entries]
    split = 0
    for path in whole_reports(world):
        for row in reports.settlement(path):
            if row.record_type not in reports.PAYOUTS:
                continue
            found = [e for currency, e in entries if currency == row.net_currency and row.psp_reference in e.text]
            if troubled & {row.psp_reference, *(e.reference for e in found)}:
                continue
            expected = 0 if row.psp_reference in waiting else -row.net
            assert sum(e.amount for e in found) == expected, row
            split += len(found) == 2
    assert split == 2


def test_cut_file_is_the_beginning_of_the_whole_one(world: World) -> None:
    cut, whole = (r["file"] for r in files_truth(world) if r["kind"] == "TRUNCATED_FILE")
    broken = (world.landing / "stripe" / cut).read_bytes()
    assert (world.landing / "stripe" / whole).read_bytes().startswith(broken)
    assert broken
    assert not broken.endswith(b"\n")


def test_odd_files_are_where_the_truth_says(world: World) -> None:
    delivered = {path.name: day for day, paths in world.delivered.items() for path in paths}
    kinds = set()
    for row in files_truth(world):
        kinds.add(row["kind"])
        if row["status"] == "absent":
            assert row["file"] not in delivered
        else:
            assert delivered[row["file"]].isoformat() == row["delivered_on"]
        if row["kind"] == "DUPLICATE_FILE":
            original = row["note"].removeprefix("the content of ")
            folder = world.landing / "adyen"
            assert (folder / original).read_bytes() == (folder / row["file"]).read_bytes()
    assert kinds == {"TRUNCATED_FILE", "DUPLICATE_FILE", "LATE_REPORT", "MISSING_RATE", "MISSING_OVERDUE"}


def test_rates_are_one_row_a_day(world: World) -> None:
    days = set()
    for path in (world.landing / "ecb").iterdir():
        with path.open(newline="") as file:
            (row,) = csv.DictReader(file)
        days.add(row["Date"])
        assert float(row["SEK"]) > 10
        assert row["RUB"] == "N/A"
    assert len(days) == 9
    assert "2026-10-28" not in days
