"""The arithmetic that every amount and every due date rests on, against another way of computing it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dbt.worlds import EMPTY, WORKING, Warehouse
from tieout.sandbox.days import add_business_days

# A bigint's worth of minor units, and the fractions that fees of a few basis points make.
AMOUNTS = st.integers(-(10**15), 10**15)
NEAR_HALVES = st.builds(lambda whole, parts: Decimal(whole) + Decimal(parts) / 1000, AMOUNTS, st.integers(490, 510))
SANDBOX_DAYS = [date(2026, 10, 8) + timedelta(days=n) for n in range(30)]


@pytest.fixture(scope="module")
def compiled(deployed: Warehouse) -> dict[str, str]:
    """What dbt makes of macros over the columns of a table named ``given``."""
    statements = {
        "round": "select n, {{ round_half_even('amount') }} from given order by n",
        "value": "select n, {{ to_reporting_minor('amount', 'rate', 'exponent', 'reporting') }} from given order by n",
        "days": "select given.currency, given.day, given.lag, e.calendar_date from given "
        "{{ join_business_day('s', 'e', 'given.currency', 'given.day', 'given.lag') }}",
        "periods": "select 'always' as said, key, row from ({{ test_valid_periods('given', ['key']) }}) as broken "
        "union all select 'now and then', key, row from ({{ test_valid_periods('given', ['key'], true) }}) as broken",
    }
    found = {}
    for name, statement in statements.items():
        deployed.runner.run(["compile", "--inline", statement], name=f"macros/{name}")
        artifact = deployed.state / "dbt" / "macros" / name / "run_results.json"
        (result,) = json.loads(artifact.read_text())["results"]
        found[name] = result["compiled_code"].replace(f'"{WORKING}".', "")
    return found


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.one_of(NEAR_HALVES, AMOUNTS.map(lambda n: Decimal(n) / 2)), min_size=1, max_size=200))
def test_halves_go_to_the_even_neighbour(deployed: Warehouse, compiled: dict[str, str], values: list[Decimal]) -> None:
    """Money lost: Postgres' own round takes every half away from zero."""
    table = "with given as (select * from unnest(%s::numeric[]) with ordinality as t(amount, n)) "
    found = deployed.query(table + compiled["round"], (values,), EMPTY)
    assert [amount for _, amount in found] == [int(v.quantize(Decimal(1), ROUND_HALF_EVEN)) for v in values]


def test_postgres_round_would_not_do(deployed: Warehouse, compiled: dict[str, str]) -> None:
    table = "with given as (select 0.5::numeric as amount, 1 as n) "
    assert deployed.query(table + compiled["round"], (), EMPTY) == [(1, 0)]
    assert deployed.query("select round(0.5::numeric)", (), EMPTY) == [(1,)]


@pytest.mark.parametrize("exponent", [0, 2, 3])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(
    st.tuples(st.integers(-(10**12), 10**12), st.decimals("0.0001", "20000", places=5)), min_size=1, max_size=100
))  # fmt: skip
def test_amounts_are_valued_exactly(
    deployed: Warehouse, compiled: dict[str, str], exponent: int, values: list[tuple[int, Decimal]]
) -> None:
    """JPY has no decimals, KWD three: a hundredth of a yen is not a yen."""
    table = (
        "with given as (select n, amount::bigint as amount, rate, %s as exponent, 2 as reporting "
        "from unnest(%s::numeric[], %s::numeric[]) with ordinality as t(amount, rate, n)) "
    )
    amounts, rates = zip(*values, strict=True)
    found = deployed.query(table + compiled["value"], (exponent, list(amounts), list(rates)), EMPTY)
    with localcontext(prec=60):
        wanted = [
            int((Decimal(amount) * 100 / (rate * 10**exponent)).quantize(Decimal(1), ROUND_HALF_EVEN))
            for amount, rate in values
        ]
    assert [amount for _, amount in found] == wanted


def test_business_days_are_those_of_the_currency(deployed: Warehouse, compiled: dict[str, str]) -> None:
    """Weekends, Kuwait's weekend, a holiday and the long day of October, for every lag a processor may have."""
    table = (
        "with given as (select currency, day::date, lag from unnest(%s) as currency, unnest(%s) as day, "
        "generate_series(0, 5) as lag) "
    )
    found = deployed.query(table + compiled["days"], (["EUR", "KWD", "NZD"], SANDBOX_DAYS), EMPTY)
    assert len(found) == 3 * len(SANDBOX_DAYS) * 6
    wrong = [row for row in found if row[3] != add_business_days(row[1], row[2], row[0])]
    assert wrong == []


def test_no_two_rows_of_a_rule_hold_on_one_day(deployed: Warehouse, compiled: dict[str, str]) -> None:
    """Money counted twice, or by nobody: periods that overlap, leave days out, are empty or end for good."""
    periods = {
        "follow": [("2026-01-01", "2026-02-01"), ("2026-02-01", None)],
        "overlap": [("2026-01-01", "2026-02-02"), ("2026-02-01", None)],
        "both open": [("2026-01-01", None), ("2026-02-01", None)],
        "twice": [("2026-01-01", None), ("2026-01-01", None)],
        "gap": [("2026-01-01", "2026-02-01"), ("2026-02-02", None)],
        "empty": [("2026-01-01", "2026-01-01"), ("2026-01-01", None)],
        "ends": [("2026-01-01", "2026-02-01")],
    }
    rows = [(key, number, *row) for key, found in periods.items() for number, row in enumerate(found)]
    table = (
        "with given as (select * from unnest(%s, %s, %s::date[], %s::date[]) as t(key, row, valid_from, valid_to)) "
    )
    found = deployed.query(table + compiled["periods"], tuple(map(list, zip(*rows, strict=True))), EMPTY)
    broken = {said: {key for name, key, _ in found if name == said} for said in ("always", "now and then")}
    assert broken == {
        "always": periods.keys() - {"follow"},
        "now and then": {"overlap", "both open", "twice", "empty"},
    }
