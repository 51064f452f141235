"""Which server, which history of it and which database a source is: a horizon is good for these only.

A source restored somewhere else has another transaction counter, and a row written there may carry a number that
lies before our horizon: it would never be read. So a batch keeps the identity beside its horizon, and rows are
chosen by transaction only while the identity is the same.
"""

from __future__ import annotations

import psycopg2
from psycopg2.extensions import connection as Connection

# The system identifier is made by initdb and survives a restart, a physical copy and a promotion. The timeline
# changes with a promotion and with a restore to a point in time, after which numbers of transactions come again.
# A standby knows no current WAL position; its control file has the timeline it follows.
ALLOWED = """
select format('system %s timeline %s database %s', c.system_identifier,
       case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint())
            else ('x' || left(pg_walfile_name(case when not pg_is_in_recovery() then pg_current_wal_lsn() end), 8))
                 ::bit(32)::integer end,
       d.oid)
from pg_control_system() c, pg_database d where d.datname = current_database()
"""
# Where a hosted server keeps those functions to itself: the same process has not been restored meanwhile.
# A restart then costs one batch of everything, which is the safe side.
UNTIL_RESTART = """
select format('started %s database %s', extract(epoch from pg_postmaster_start_time()), d.oid)
from pg_database d where d.datname = current_database()
"""


def source_identity(connection: Connection) -> str:
    """What a horizon taken over this connection belongs to, as one line of text.

    :param connection: to the source, in autocommit: a server may refuse the better question.
    :raises psycopg2.Error: the source does not answer.
    """
    with connection.cursor() as cursor:
        try:
            cursor.execute(ALLOWED)
        except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.FeatureNotSupported):
            cursor.execute(UNTIL_RESTART)
        row = cursor.fetchone()
    if row is None:
        raise psycopg2.DataError("the source does not list its own database in pg_database")
    return str(row[0])
