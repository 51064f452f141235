"""The check of what the loads themselves noted."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from psycopg2.extensions import connection as Connection

from tieout.sources import Registry
from tieout.watch.findings import PLATFORM, Finding, Severity, blind, query

MESSAGES_MAX = 3

# A snapshot's note counts while its batch is the table's newest, by load or by interval (a backfill is newest by
# load, and makes no note of the newest interval old). A note of a table that was left out has no batch: it counts
# until a load of that interval or a later one. Files have no intervals: theirs count until the next run finds a file.
CURRENT_NOTES = """
with newest as (
    select source, table_name, max(batch_id) as by_load,
           (array_agg(batch_id order by interval_end desc, batch_id desc))[1] as by_interval
    from ops.batches where interval_end is not null group by source, table_name
),
files as (
    select greatest((select max(seen_at) from ops.files),
                    (select max(as_of) from ops.load_notes where interval_end is null)) as as_of
)
select n.source, n.table_name, n.kind, n.severity, n.message
from ops.load_notes n
left join newest using (source, table_name)
where case
    when n.interval_end is null then n.as_of = (select as_of from files)
    when n.batch_id is not null then n.batch_id in (newest.by_load, newest.by_interval)
    else not exists (
        select from ops.batches b
        where (b.source, b.table_name) = (n.source, n.table_name)
          and b.interval_end >= n.interval_end and b.loaded_at > n.noted_at
    )
end
order by n.note_id desc
"""


def load_notes(connection: Connection, registry: Registry, as_of: datetime) -> list[Finding]:
    """Did the newest load of a table, or the newest run over the landing, see anything unusual?

    One finding a table and kind of note, as severe as the worst of them, and one that is ok where there is none.
    """
    if not query(connection, "select from ops.batches union all select from ops.load_notes limit 1"):
        return [blind("load_notes", "nothing was ever loaded")]
    owners = {source.name: source.owner for source in registry.sources}
    owners |= {f"{table.source}.{table.name}": table.owner for table in registry.tables}
    notes: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    worst: dict[tuple[str, str, str], Severity] = {}
    for source, table_name, kind, severity, message in query(connection, CURRENT_NOTES):
        key = (source, table_name, kind)
        if message not in notes[key]:
            notes[key].append(message)
        worst[key] = "fail" if "fail" in (severity, worst.get(key)) else "warn"
    findings = []
    for (source, table_name, kind), messages in notes.items():
        more = len(messages) - MESSAGES_MAX
        said = "; ".join(messages[:MESSAGES_MAX]) + (f"; and {more} more" if more > 0 else "")
        owner = owners.get(f"{source}.{table_name}") or owners.get(source) or PLATFORM
        findings.append(
            Finding(
                "load_notes", f"{source}.{table_name} {kind}", worst[source, table_name, kind], said,
                {"kind": kind, "notes": len(messages)}, owner,
            )
        )  # fmt: skip
    noted = {(source, table_name) for source, table_name, _ in notes}
    for table in registry.tables:
        if (table.source, table.name) not in noted:
            subject = f"{table.source}.{table.name}"
            findings.append(Finding("load_notes", subject, "ok", "its newest load noted nothing", {}, table.owner))
    return findings
