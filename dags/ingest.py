"""
### What it does
Takes what the payment system and the landing folder hold and puts it into `raw`, as batches with control totals.

1. `snapshot` extracts every declared table of the payment system in one consistent snapshot.
2. `files` loads what processors, banks and rate publishers delivered; a file that does not prove itself is
   quarantined with a reason. When both are through, the asset `ingested` is updated, which starts `close`.

Without parameters it takes the business day before the run, in the book's zone.

### Choose what is loaded
- `tables`: these tables only, of whichever payment system has them (or `payments.payouts`, where two have one). Their
  batches say that they were read later; no file is loaded then, `files` ends as skipped and no close starts.
- **A backfill** (*Trigger → Backfill*, or `airflow backfill create --dag-id ingest --max-active-runs 1`) leaves a day
  alone that is loaded. A missed day that lies before a loaded one becomes a batch of what the source holds now of that
  day: events are complete, what a row was before its last change is gone. It enters the next close; `files` ends as
  skipped where the day is closed already. Run one day at a time: days out of order hold rows twice, none is lost.
- `accept_deletions`: tables whose vanished rows are meant. A table that was emptied, or lost more rows at once than it
  should, is left out until this run parameter, or a restored source, says what is right.

### Triage
- **May I re-run it?** Yes, at any time. A committed interval and a file already seen are left alone.
- **Where are the logs?** The task's log has a line per table and per file; `ops.batches` and `ops.files` have the
  history, and the page *Tieout* has the incidents.
- **Who owns it?** payments-data.
- **What if it fails?** `snapshot`: the message names the connection that does not answer, or the table that no longer
  keeps its contract; repair it and clear the task. `files`: nothing of a bad file is loaded; the message names it.
  Nothing is half loaded, and the next run picks up what this one did not.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param

from tieout.operators import ExtractSnapshotOperator, LoadFilesOperator

# An empty schedule means: only when asked. The default leaves processors two hours after midnight.
SCHEDULE = os.environ.get("TIEOUT_INGEST_SCHEDULE", "0 2 * * *")
ZONE = os.environ.get("TIEOUT_ZONE", "Europe/Amsterdam")

NAME = {"type": "string", "pattern": "^([a-z_][a-z0-9_]{0,62}\\.)?[a-z_][a-z0-9_]{0,62}$"}

with DAG(
    dag_id="ingest",
    doc_md=__doc__,
    schedule=CronTriggerTimetable(SCHEDULE, timezone=ZONE) if SCHEDULE else None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    tags=["ingest", "tier-1"],
    default_args={
        "owner": "payments-data",
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
    },
    params={
        "business_date": Param(
            None, type=["null", "string"], format="date", description="Business date; empty: the day before the run."
        ),
        "interval_start": Param(
            None,
            type=["null", "string"],
            format="date-time",
            description="Start of what is loaded, with zone; empty: midnight of the business date.",
        ),
        "tables": Param(
            None,
            type=["null", "array"],
            items=NAME,
            uniqueItems=True,
            description="Load these tables only (table or source.table), and no files; empty: all.",
        ),
        "accept_deletions": Param(
            None,
            type=["null", "array"],
            items=NAME,
            uniqueItems=True,
            description="Tables whose vanished rows are meant to be gone.",
        ),
    },
):
    snapshot = ExtractSnapshotOperator(
        task_id="snapshot",
        source_name="payments",
        business_date="{{ params.business_date or '' }}",
        interval_start="{{ params.interval_start or '' }}",
    )
    files = LoadFilesOperator(
        task_id="files",
        business_date="{{ params.business_date or '' }}",
        outlets=[Asset(name="ingested", uri="tieout://raw/ingested")],
    )
    snapshot >> files
