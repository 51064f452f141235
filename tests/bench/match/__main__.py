"""The matcher's benchmark: planted breaks found again, code by code, and what matching costs.

    python -m tests.bench.match --mode match --payments 100000 --seeds "1 2 3 4 5" --draw 5
    python -m tests.bench.match --mode speed --payments 1000000
    python -m tests.bench.match --mode year --payments 52000

``match`` plays 30 business days a seed, and once the world that was held back. Every mode ends with ``RESULT {...}``.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from tests.bench.match import rivals, speed, table, year
from tests.bench.match.closes import Closed, play, warehouse
from tests.bench.match.days import codes
from tests.bench.match.plan import Plan, usual
from tests.bench.match.score import Score, print_matrix, ratio, summary
from tests.bench.match.unseen import unseen
from tests.dbt.worlds import Warehouse

YEAR_CLOSES = 262
WRONG_SHOWN_MAX = 40


def main() -> int:
    """Run one mode; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("match", "speed", "year"), default="match")
    parser.add_argument("--payments", type=int, default=100_000)
    parser.add_argument("--seeds", default="1 2 3 4 5", help="seeds to play; 'none' for those drawn alone")
    parser.add_argument("--draw", type=int, default=5, help="how many further seeds are drawn now")
    parser.add_argument("--closes", type=int, help="stop a world after so many closes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=Path(".tieout/bench"), help="where datacompy is installed")
    parser.add_argument("--table", type=Path, help="Markdown page to write")
    parser.add_argument("--report", type=Path, default=Path(".tieout/bench/match"), help="where series and plots go")
    parser.add_argument("--jobs", type=int, default=1, help="how many worlds are played at a time")
    asked = parser.parse_args()
    result, good = {"match": _match, "speed": _speed, "year": _year}[asked.mode](asked)
    if asked.table is not None:
        table.write(asked.table, result)
    print("RESULT " + json.dumps(result))
    return 0 if good else 1


@contextmanager
def _server() -> Iterator[tuple[Warehouse, Path]]:
    """A deployed warehouse, and a folder for what is written beside it."""
    folder = Path(tempfile.mkdtemp(prefix="tieout-bench-match-", dir="/tmp"))
    # PostgreSQL runs as another user when this runs as root.
    folder.chmod(0o755)
    try:
        with warehouse(folder) as books:
            yield books, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _match(asked: argparse.Namespace) -> tuple[dict[str, object], bool]:
    """Every seed's world and the one held back; the rivals on the first seed's data."""
    fixed = [] if asked.seeds == "none" else [int(number) for number in asked.seeds.split()]
    drawn = [random.SystemRandom().randrange(10**6, 10**9) for _ in range(asked.draw)]
    print(f"seeds {fixed}, drawn now {drawn}; {asked.jobs} at a time", flush=True)
    plans = [usual(number, asked.payments) for number in (*fixed, *drawn)]
    plans.append(unseen((drawn or fixed)[-1], asked.payments))
    total, worlds, beaten = Score(), [], {}
    rows, seconds = 0, 0.0
    with ProcessPoolExecutor(asked.jobs) as pool:
        peers = [asked.peers, *[None] * (len(plans) - 1)]
        for closed, others in pool.map(_world, plans, [asked.closes] * len(plans), peers):
            plan = closed.plan
            print(f"\n{plan.name} world, seed {plan.seed}: {plan.payments:,} payments, {len(closed.rows)} closes")
            _show(closed)
            if others:
                beaten = _beaten(others)
            total.add(closed.score)
            rows += sum(closed.rows)
            seconds += sum(closed.seconds)
            worlds.append({
                "world": plan.name, "seed": plan.seed, "codes": summary(closed.score),
                "unexplained": closed.unexplained,
                "rows_per_s": round(ratio(sum(closed.rows), round(sum(closed.seconds)) or 1)),
                "rows_per_sql_s": round(ratio(sum(closed.rows), round(sum(closed.sql_seconds)) or 1)),
            })  # fmt: skip
    unexplained = sum(int(str(world["unexplained"])) for world in worlds)
    print("\nall worlds together")
    print_matrix(total)
    unplanted = sorted(codes() - {truth for truth, _ in total.matrix})
    if unplanted:
        print(f"never planted: {', '.join(unplanted)}")
    good = total.is_perfect and not unexplained and (not unplanted or asked.closes is not None)
    return {
        "mode": "match", "payments": asked.payments, "drawn": drawn, "worlds": worlds, "all": summary(total),
        "never_planted": unplanted, "unexplained": unexplained, "rows_per_s": round(rows / max(seconds, 1)),
        "jobs": asked.jobs, "rivals": beaten, "perfect": good,
    }, good  # fmt: skip


def _world(plan: Plan, upto: int | None, peers: Path | None) -> tuple[Closed, list[rivals.Rival]]:
    """Play one world on a server of its own; with ``peers`` also what others find at its last close."""
    with _server() as (books, folder):
        closed = play(books, plan, upto)
        if peers is None or closed.failures:
            return closed, []
        ((day,),) = books.query("select max(business_date) from ops.published")
        assert isinstance(day, date), f"nothing of {plan.name} is published"
        with books.connect() as connection, connection.cursor() as cursor:
            return closed, list(rivals.compete(cursor, day, peers, folder))


def _show(closed: Closed) -> None:
    print_matrix(closed.score)
    for (kind, truth, found), count in sorted(closed.score.wrong_kinds.items(), key=lambda item: -item[1]):
        print(f"  {count:6,} of {kind or 'nothing planted'}: {truth}, found {found}")
    for line in closed.score.wrong[:WRONG_SHOWN_MAX]:
        print(f"  {line}")
    print(f"unexplained: {closed.unexplained}")


def _beaten(others: Sequence[rivals.Rival]) -> dict[str, object]:
    """What a full outer join and datacompy found at the last close of the same world."""
    found: dict[str, object] = {}
    for rival in others:
        if rival.problem:
            print(f"\n{rival.name}: {rival.problem}")
            found[rival.name] = {"problem": rival.problem}
            continue
        scope = " and ".join(rivals.SCOPE)
        print(f"\n{rival.name}, {scope} at the last close: {rival.rows:,} rows in {rival.seconds:.2f} s")
        print_matrix(rival.score)
        found[rival.name] = {"codes": summary(rival.score), "rows_per_s": round(rival.rows / rival.seconds)}
    return found


def _speed(asked: argparse.Namespace) -> tuple[dict[str, object], bool]:
    with _server() as (books, _):
        result = speed.run(books, usual(int(asked.seeds.split()[0]), asked.payments), asked.rounds)
    return {"mode": "speed", **result}, float(str(result["ratio"])) <= speed.WANTED_RATIO


def _year(asked: argparse.Namespace) -> tuple[dict[str, object], bool]:
    plan = replace(usual(int(asked.seeds.split()[0]), asked.payments), name="year", closes=YEAR_CLOSES,
                   first=date(2026, 1, 5))  # fmt: skip
    with _server() as (books, _):
        closed = play(books, plan, asked.closes)
    _show(closed)
    result = year.report(closed, asked.report)
    if asked.table is not None:
        shutil.copy(asked.report / "year.svg", asked.table.parent)
    sql_ratio = result["sql"]
    assert isinstance(sql_ratio, dict)
    good = sql_ratio["ratio"] <= year.WANTED_RATIO and closed.score.is_perfect and not closed.unexplained
    return {"mode": "year", **result, "unexplained": closed.unexplained, "perfect": closed.score.is_perfect}, good


if __name__ == "__main__":
    sys.exit(main())
