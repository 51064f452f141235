"""
### What it does
Looks whether the platform keeps its promises, on a clock of its own that waits for no other DAG.

1. `check` asks every question of `tieout.watch.checks`: freshness by load time and by content, volume, quarantine,
   contract drift, what loads noted, control totals, the closes, breaks over threshold, exceptions from the proof,
   refused decisions, dbt results, the journal's chain. What it finds opens, escalates and resolves incidents.
2. `deliver` sends one Slack message per change of an incident. Without a connection `slack` they are kept.

### Triage
- **May I re-run it?** Yes. A repeated finding sends no second message.
- **Where are the logs?** The log of `check` has a line per finding; the page *Tieout* has the incidents and messages.
- **Who owns it?** data-platform; each incident names the owner of what it is about.
- **What if it fails?** `check`: the warehouse does not answer, the message names the connection; no incident is lost,
  because none was written. `deliver`: Slack did not take a message; it stays in the outbox and goes with the next run.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from tieout.watch.operators import CheckOperator, DeliverAlertsOperator

# An empty schedule means: only when asked.
SCHEDULE = os.environ.get("TIEOUT_WATCH_SCHEDULE", "*/15 * * * *")
ZONE = os.environ.get("TIEOUT_ZONE", "Europe/Amsterdam")

with DAG(
    dag_id="watch",
    doc_md=__doc__,
    schedule=CronTriggerTimetable(SCHEDULE, timezone=ZONE) if SCHEDULE else None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    # A run that takes longer would make the next ones wait.
    dagrun_timeout=timedelta(minutes=30),
    tags=["watch", "tier-2"],
    default_args={
        "owner": "data-platform",
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=2),
    },
):
    check = CheckOperator(task_id="check")
    deliver = DeliverAlertsOperator(task_id="deliver")
    check >> deliver
