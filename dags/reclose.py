"""
### What it does
Closes a past business date again, and every date after it, because what came late has to stand in its own period.

1. `reclose` opens the chain from that date to the last published one, builds and proves each close unseen, and
   publishes all of them in one transaction: journal, pointers and seals of every date, or of none.

It runs only when somebody asks: *Trigger* with `business_date` (a published date), `reason` and `actor`, which are kept
for good. It is `tieout close reopen` by other means. While it runs, the DAG `close` is refused.

### Triage
- **May I re-run it?** Yes. It goes on where it stopped; with the same date after it was published it says that nothing
  would change.
- **Where are the logs?** The task's log has a line per close and step; `ops.reclosings` has who asked and why,
  `ops.closes` each close of the chain.
- **Who owns it?** finance-control for the decision, data-platform for the run.
- **What if it fails?** *not proven*: repair what the message names and clear the task, or have two people sign
  (`tieout close except CLOSE`), or give the chain up (`tieout close abort CLOSE`); readers see the closes they saw.
  *locked period*: what is late enters the next close with its own value date; two people can unlock the month
  (`tieout period unlock BOOK MONTH --reason ...`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from tieout.operators import RecloseOperator

# Something to read, on one line.
TEXT = "^[^\\x00-\\x1f]*[^\\s\\x00-\\x1f][^\\x00-\\x1f]*$"

with DAG(
    dag_id="reclose",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    tags=["reclose", "tier-1"],
    default_args={
        "owner": "finance-control",
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
    },
    params={
        "business_date": Param(type="string", format="date", description="The published date to close again."),
        "reason": Param(type="string", pattern=TEXT, maxLength=500, description="Why; kept for good."),
        "actor": Param(type="string", pattern=TEXT, maxLength=100, description="Who decides; kept for good."),
    },
):
    RecloseOperator(task_id="reclose")
