"""Files that others wrote: counts, sums and balances against the independent truth, or refused for a stated reason.

The samples are not part of the project. They are looked for beside it, or where ``TIEOUT_SAMPLES`` points. What the
readers make of each, judged by eye, is kept in ``samples.csv`` (facts, nothing of the samples' content): a change of
any outcome fails here. ``TIEOUT_WRITE_SAMPLES=1`` writes the file anew, notes kept, for the next judgement.
"""

from __future__ import annotations

import csv
import json
import os
import re
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import mt940
import pyarrow as pa
import pytest

from tieout import files
from tieout.reading import read_file

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get("TIEOUT_SAMPLES", ROOT.parent / "shared" / "samples"))
GOLDEN = Path(__file__).with_name("samples.csv")
OUTCOME = ("status", "format", "statements", "entries", "rows", "sum", "balance", "line", "column", "reason")
NAMES = re.compile(r"(?<=^statement )\S+|(?<=lines of batch )\S+ of \S+")

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


def outcome(path: Path) -> dict[str, str]:
    """What the readers make of a file, under the keys of ``OUTCOME``; names out of the file are left out."""
    rows = 0

    def count(table: str, some: pa.RecordBatch) -> None:
        nonlocal rows
        rows += len(some)

    refused: files.Rejected | None = None
    try:
        reading = files.read(path, count)
    except files.Rejected as rejected:
        refused, reading = rejected, rejected.reading or files.Reading()
    sums = reading.exact_sum or reading.signed_sum
    return {
        "status": "refused" if refused else "read",
        "format": reading.format or "",
        "statements": str(reading.statements),
        "entries": str(reading.entries),
        "rows": "" if refused else str(rows),
        "sum": " ".join(f"{currency} {amount}" for currency, amount in sorted(sums.items())),
        "balance": reading.balance,
        "line": str(refused.line or "") if refused else "",
        "column": (refused.column or "") if refused else "",
        "reason": NAMES.sub("...", refused.reason) if refused else "",
    }


def golden() -> dict[str, dict[str, str]]:
    if not GOLDEN.is_file():
        return {}
    with GOLDEN.open(encoding="utf-8", newline="") as stream:
        return {row["sample"]: row for row in csv.DictReader(stream)}


def test_every_sample_is_read_to_its_proof_or_refused_for_the_reason_that_was_judged_right() -> None:
    known = golden()
    found = {str(path.relative_to(SAMPLES)): outcome(path) for path in sorted(SAMPLES.rglob("*")) if path.is_file()}
    assert len(found) >= 300
    if os.environ.get("TIEOUT_WRITE_SAMPLES"):
        with GOLDEN.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ("sample", *OUTCOME, "note"), lineterminator="\n")
            writer.writeheader()
            for name, values in found.items():
                writer.writerow({"sample": name, **values, "note": known.get(name, {}).get("note", "")})
        known = golden()
    differences = [
        f"{name}: {column} is {found.get(name, {}).get(column)!r}, judged right was {known.get(name, {}).get(column)!r}"
        for name in sorted(found.keys() | known.keys())
        for column in OUTCOME
        if found.get(name, {}).get(column) != known.get(name, {}).get(column)
    ]
    assert not differences, "\n".join(differences[:40])


def test_nothing_is_read_that_disproves_itself() -> None:
    for name, row in golden().items():
        assert (row["status"] == "refused") == bool(row["reason"]), name
        assert row["status"] == "refused" or row["balance"] in ("ok", "-"), name
