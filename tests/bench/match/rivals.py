"""Two things people would use instead, on the same data: a full outer join written by hand, and datacompy.

Both get what they need made ready: the latest version of every row, one column of signed minor units a side, the payout
reference already cut out of the bank's text, and how long to wait before an item counts as missing. Preparing costs
them no time; what they find is held against the same truth, at the last close, in the two reconciliations that such a
join is written for. Where one of them finds nothing of a code, its precision there is of nothing.
"""

from __future__ import annotations

import csv
import subprocess
import time
import venv
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from tests.bench.match.load import copy_rows
from tests.bench.match.score import Score, compare_found

PACKAGES = ("datacompy==1.1.0", "polars==1.44.2")
SCOPE = ("payment_processor", "processor_bank")
# How long people would wait before they call something missing.
PATIENCE_DAYS = 4
PREPARE = """
create schema rival;
create table rival.ours as
select 'payment_processor' as reconciliation, processor || '|' || family as kind, psp_reference as key,
    reference, amount_minor, currency, day
from (
    select processor, 'capture' as family, psp_reference, capture_id as reference, amount_minor, currency, is_deleted,
        captured_at::date as day, row_number() over (partition by capture_id order by batch_id desc) as age,
        true as counts
    from raw.payments_captures
    union all
    select processor, 'refund', psp_reference, refund_id, -amount_minor, currency, is_deleted, refunded_at::date,
        row_number() over (partition by refund_id order by batch_id desc), status = 'succeeded'
    from raw.payments_refunds
    union all
    select processor, case stage when 'won' then 'chargeback_reversal' else 'chargeback' end, psp_reference,
        dispute_id || ':' || stage, case stage when 'won' then amount_minor else -amount_minor end, currency,
        is_deleted, stage_at::date, row_number() over (partition by dispute_id, stage order by batch_id desc),
        stage <> 'lost'
    from raw.payments_disputes
) as rows where age = 1 and counts and not is_deleted and day <= %(day)s;

create temporary table rival_lines as
select lines.*, vocabulary.family, vocabulary.item_type, files.name as file_name
from (
    select *, row_number() over (partition by row_key, occurrence order by batch_id desc) as age
    from (
        select lines.*, coalesce(
            occurrence_no, row_number() over (partition by row_key, lines.batch_id order by abs(line_no))
        ) as occurrence
        from raw.settlement_lines as lines
        left join ops.repeated_rows as repeated on repeated.batch_id = lines.batch_id and repeated.row_no = line_no
    ) as told_apart
) as lines
join ops.files on files.file_id = lines.file_id
left join {vocabulary} as vocabulary
    on vocabulary.processor = lines.processor and lower(vocabulary.record_type) = lower(lines.record_type)
    and vocabulary.direction in ('any', case when lines.net_minor < 0 then 'debit' else 'credit' end)
where age = 1 and not is_deleted;

create table rival.theirs as
select 'payment_processor' as reconciliation, processor || '|' || coalesce(family, 'unmapped') as kind,
    psp_reference as key,
    processor || ':' || coalesce(psp_reference || ':' || record_type, file_name || ':' || line_no) as reference,
    gross_minor as amount_minor, gross_currency as currency, booked_at::date as day
from rival_lines
where coalesce(family, '') not in ('payout', 'fee', 'reserve')
union all
select 'processor_bank', processor, reference, bank_account || ':' || bank_reference, amount_minor, currency,
    booking_date
from (
    select *, substring(remittance from '(TX[0-9]+|po_[0-9]+|[0-9]{{13}})') as reference,
        case when remittance like 'ADYEN%%' then 'adyen' when remittance like 'STRIPE%%' then 'stripe'
            when remittance like 'PAYPAL%%' then 'paypal' else 'unknown' end as processor
    from raw.bank_entries
    where remittance !~ '(PO-|FX-)'
) as entries;

insert into rival.ours
select 'processor_bank', processor, psp_reference, processor || ':' || psp_reference, -net_minor, net_currency,
    booked_at::date
from rival_lines
where family = 'payout';
analyze rival.ours;
analyze rival.theirs;
"""
# What somebody would write in an afternoon, with an eye for amounts, currencies, signs and what is not due yet.
BY_HAND = """
create table rival.by_hand as
select reconciliation, ours.reference as our_reference, theirs.reference as their_reference,
    ours.amount_minor as our_minor, theirs.amount_minor as their_minor,
    ours.currency as our_currency, theirs.currency as their_currency,
    case
        when theirs.reference is null and ours.day > %(day)s::date - %(patience)s then 'EXPECTED_NOT_DUE'
        when theirs.reference is null then
            case reconciliation when 'payment_processor' then 'IN_LEDGER_NOT_PSP' else 'PSP_NOT_BANK' end
        when ours.reference is null then
            case reconciliation when 'payment_processor' then 'IN_PSP_NOT_LEDGER' else 'BANK_NOT_PSP' end
        when ours.currency <> theirs.currency then 'CURRENCY_MISMATCH'
        when ours.amount_minor = -theirs.amount_minor then 'DIRECTION'
        when abs(ours.amount_minor - theirs.amount_minor) = 1 then 'ROUNDING'
        when abs(theirs.amount_minor) < abs(ours.amount_minor) then 'UNDER'
        when abs(theirs.amount_minor) > abs(ours.amount_minor) then 'OVER'
    end as code
from rival.ours full join rival.theirs using (reconciliation, kind, key);
analyze rival.by_hand;
"""
FOUND_BY_HAND = """
select reconciliation, 'left' as side, our_reference as reference, code, abs(our_minor) as amount_minor,
    our_currency as currency, count(*) as n
from rival.by_hand where code is not null and our_reference is not null group by 1, 2, 3, 4, 5, 6
union all
select reconciliation, 'right', their_reference, code, abs(their_minor), their_currency, count(*)
from rival.by_hand where code is not null and their_reference is not null group by 1, 2, 3, 4, 5, 6
"""
FOUND_BY_DATACOMPY = """
select reconciliation, side, reference, code, abs(amount_minor) as amount_minor, currency, count(*) as n
from rival.by_datacompy group by 1, 2, 3, 4, 5, 6
"""
DATACOMPY = """
import sys
import time
import polars
from datacompy import PolarsCompare
ours_csv, theirs_csv, found_csv, overdue_from = sys.argv[1:]
began = time.monotonic()
types = {"key": polars.String, "reference": polars.String, "day": polars.String}
ours = polars.read_csv(ours_csv, schema_overrides=types)
theirs = polars.read_csv(theirs_csv, schema_overrides=types)
keys = ["reconciliation", "kind", "key"]
compared = PolarsCompare(ours, theirs, join_columns=keys, df1_name="ours", df2_name="theirs")
alone = {"payment_processor": ("IN_LEDGER_NOT_PSP", "IN_PSP_NOT_LEDGER"),
         "processor_bank": ("PSP_NOT_BANK", "BANK_NOT_PSP")}
found = []
for row in compared.df1_unq_rows.iter_rows(named=True):
    code = "EXPECTED_NOT_DUE" if row["day"] >= overdue_from else alone[row["reconciliation"]][0]
    found.append((row["reconciliation"], "left", row["reference"], code, row["amount_minor"], row["currency"]))
for row in compared.df2_unq_rows.iter_rows(named=True):
    code = alone[row["reconciliation"]][1]
    found.append((row["reconciliation"], "right", row["reference"], code, row["amount_minor"], row["currency"]))
both = compared.intersect_rows.filter(
    (polars.col("amount_minor_ours") != polars.col("amount_minor_theirs"))
    | (polars.col("currency_ours") != polars.col("currency_theirs"))
)
for row in both.iter_rows(named=True):
    left, right = row["amount_minor_ours"], row["amount_minor_theirs"]
    if row["currency_ours"] != row["currency_theirs"]:
        code = "CURRENCY_MISMATCH"
    elif left == -right:
        code = "DIRECTION"
    elif abs(left - right) == 1:
        code = "ROUNDING"
    else:
        code = "UNDER" if abs(right) < abs(left) else "OVER"
    for side, amount, which in (("left", left, "ours"), ("right", right, "theirs")):
        found.append((row["reconciliation"], side, row["reference_" + which], code, amount, row["currency_" + which]))
seconds = time.monotonic() - began
polars.DataFrame(found, schema=["reconciliation", "side", "reference", "code", "amount_minor", "currency"],
                 orient="row").write_csv(found_csv)
print(seconds)
"""


@dataclass(frozen=True)
class Rival:
    """What a rival found at the last close: its score, the rows it compared, its seconds; or why it did not run."""

    name: str
    score: Score
    rows: int
    seconds: float
    problem: str = ""


def install(folder: Path) -> str:
    """Put datacompy into an environment of its own unless it is there; why that failed, or nothing."""
    stamp = folder / "installed"
    wanted = "\n".join(PACKAGES)
    if stamp.exists() and stamp.read_text() == wanted:
        return ""
    venv.create(folder, with_pip=True, clear=True)
    done = subprocess.run(
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    stamp.write_text(wanted)
    return ""


def compete(cursor: Cursor, day: date, peers: Path, scratch: Path) -> list[Rival]:
    """Let both match everything that was loaded up to ``day``."""
    cursor.execute("select table_schema from information_schema.tables where table_name = 'processor_vocabulary'")
    ((schema,),) = cursor.fetchall()
    cursor.execute(PREPARE.format(vocabulary=f"{schema}.processor_vocabulary"), {"day": day})
    cursor.execute("select (select count(*) from rival.ours) + (select count(*) from rival.theirs)")
    ((rows,),) = cursor.fetchall()
    began = time.monotonic()
    cursor.execute(BY_HAND, {"day": day, "patience": PATIENCE_DAYS})
    seconds = time.monotonic() - began
    by_hand = Score()
    compare_found(cursor, day, by_hand, FOUND_BY_HAND, SCOPE)
    found = [Rival("full outer join", by_hand, rows, seconds)]

    problem = install(peers / "datacompy")
    score, seconds = Score(), 0.0
    if not problem:
        paths = [scratch / f"{name}.csv" for name in ("ours", "theirs", "found")]
        for path in paths[:2]:
            with path.open("w") as file:
                cursor.copy_expert(f"copy rival.{path.stem} to stdout (format csv, header)", file)
        overdue = date.fromordinal(day.toordinal() - PATIENCE_DAYS + 1).isoformat()
        done = subprocess.run([peers / "datacompy" / "bin" / "python", "-c", DATACOMPY, *map(str, paths), overdue],
                              capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode:
            problem = (done.stderr.strip().splitlines() or ["failed"])[-1]
        else:
            seconds = float(done.stdout.split()[-1])
            cursor.execute(
                "create table rival.by_datacompy "
                "(reconciliation text, side text, reference text, code text, amount_minor bigint, currency text)"
            )
            with paths[2].open(newline="") as file:
                names = ("reconciliation", "side", "reference", "code", "amount_minor", "currency")
                copy_rows(cursor, sql.Identifier("rival", "by_datacompy"), names, csv.DictReader(file))
            compare_found(cursor, day, score, FOUND_BY_DATACOMPY, SCOPE)
    return [*found, Rival("datacompy", score, rows, seconds, problem)]
