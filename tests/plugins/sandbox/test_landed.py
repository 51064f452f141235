"""The sandbox's files as the ingest meets them: every statement follows the one before, every account is ours."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from psycopg2.extensions import connection as Connection

from tests.plugins.sandbox.conftest import World
from tieout.landing.accounts import declared_accounts
from tieout.landing.load import load_landing
from tieout.sources import load_registry

AS_OF = datetime(2026, 10, 31, 4, tzinfo=UTC)


def test_all_that_a_played_sandbox_delivers_is_loaded_but_the_file_that_breaks_off(
    small: World, warehouse: Connection
) -> None:
    outcomes = load_landing(small.landing, warehouse, load_registry(), AS_OF, declared_accounts())
    counts = Counter(outcome.outcome for outcome in outcomes)
    assert counts.keys() == {"loaded", "quarantined", "known"}, [o for o in outcomes if o.outcome not in ("loaded",)]
    assert (counts["quarantined"], counts["known"]) == (1, 1)
