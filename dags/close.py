"""
### What it does
Closes a business date: everything ingested and not yet closed is matched, proved, booked and published.

1. `open` fixes the close's parent and the batches it consumes.
2. `reconcile` stages and matches; every item must end matched, open with a reason, or excluded (the item proof).
3. `books` proposes the journal and computes the KPIs; every clearing account must be zero or explained by open breaks
   (the clearing proof).
4. `monitoring` builds what watches over the figures, so that readers get it together with them.
5. `publish` books the journal and flips the readers' pointer, in one transaction.

It starts when `ingest` updates the asset `ingested`, for the business date the asset names; of several that wait, the
latest. A date that has not ended is refused.

### Triage
- **May I re-run it?** Yes. Over the same batches it gives the same rows; a published close stays as it is. Until
  `publish`, readers see the close before it.
- **Late data for a closed date?** The next close takes it with its own value date. To close the date itself again, with
  every date after it: the DAG `reclose`, or `tieout close reopen DATE --reason ...`. Until that is published this DAG's
  `open` is refused. A locked month stays as it is.
- **Where are the logs?** Each task's log has a line per model and test; `ops.build_results` keeps them, `ops.closes`
  has the state and the reason of a failure.
- **Who owns it?** finance-control for the numbers, data-platform for the run.
- **What if it fails?** *not proven*: the message names the table, currency and rows that do not add up; look at them
  before anything else, a retry gives the same. What cannot be repaired today two people may sign for:
  `tieout close except DATE` shows the lines and what is missing; then clear `open` with what is downstream of it.
  Anything else: repair what the message names and clear `open` likewise.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Asset, Param

from tieout.operators import BuildCloseOperator, OpenCloseOperator, PublishCloseOperator

with DAG(
    dag_id="close",
    doc_md=__doc__,
    schedule=[Asset(name="ingested", uri="tieout://raw/ingested")],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    tags=["close", "tier-1"],
    default_args={
        "owner": "finance-control",
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
    },
    params={
        "business_date": Param(
            None,
            type=["null", "string"],
            format="date",
            description="Business date; empty: the date the ingested asset names.",
        ),
    },
):
    opened = OpenCloseOperator(task_id="open", business_date="{{ params.business_date or '' }}")
    reconcile = BuildCloseOperator(task_id="reconcile", step="reconcile", close=opened.output)
    books = BuildCloseOperator(task_id="books", step="books", close=opened.output)
    monitoring = BuildCloseOperator(task_id="monitoring", step="monitoring", close=opened.output)
    publish = PublishCloseOperator(task_id="publish", close=opened.output)
    opened >> reconcile >> books >> monitoring >> publish
