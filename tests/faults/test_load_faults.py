"""Loads under faults: at every failpoint, whatever ends the run, one re-run makes raw what a quiet run makes it.

Every point of :class:`Failpoint` that a load has is tried, so a new one is tested by being there.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from tests.faults.conftest import Loads
from tests.faults.stand import FROZEN, Child, Landing, Load, Shop
from tieout import failpoints
from tieout.failpoints import Failpoint

POINTS = {"extraction": Shop.points, "files": Landing.points}
# How often a run comes by: once for each of two tables (and for what a sweep copies), or of three files.
OFTEN = {
    **{point: 2 for point in Failpoint if point.value.startswith("batch.")},
    Failpoint.MID_COPY: 3,
    Failpoint.FILE_COPIED: 3,
}
TURNS = [
    (load, point, turn)
    for load, points in POINTS.items()
    for point in points
    for turn in range(1, OFTEN.get(point, 1) + 1)
]


def reached(load: Load, turn: int) -> set[Failpoint]:
    """The points that a quiet run comes by this often."""
    asked = ",".join(f"{point.value}=sleep:0@{turn}" for point in Failpoint)
    with closing(load.start(load.stand.clone(load.template), asked)) as child:
        assert child.end() == 0, child.said
    return {Failpoint(line.removeprefix("reached ")) for line in child.said.splitlines() if line.startswith("reached ")}


def test_every_point_is_reached_by_a_load_that_is_broken_there(loads: Loads) -> None:
    """The guard of all tests below: a point that nobody comes by would prove nothing."""
    loaded = {point for point in Failpoint if not point.value.startswith("reclose.")}
    assert loaded == {*POINTS["extraction"], *POINTS["files"]}
    for turn in range(1, max(OFTEN.values()) + 2):
        expected = {(load, point) for load, point, number in TURNS if number == turn}
        found = {(name, point) for name in Loads._fields for point in reached(getattr(loads, name), turn)}
        # Where an earlier test let the server crash, its counters began anew: then both tables are swept.
        assert found - {("extraction", Failpoint.BEFORE_SWEEP)} == expected - {
            ("extraction", Failpoint.BEFORE_SWEEP)
        }, f"time {turn}"
        assert turn > 1 or ("extraction", Failpoint.BEFORE_SWEEP) in found


def check_state(load: Load, warehouse: str, committed: int) -> None:
    """So much is there and no more; one re-run does the rest, and nothing twice."""
    assert load.digest(warehouse) == load.states[committed]
    assert load.again(warehouse) == len(load.states) - 1 - committed
    assert load.digest(warehouse) == load.states[-1]


EVERYWHERE = pytest.mark.parametrize(
    ("load", "point", "turn"), TURNS, ids=[f"{load}-{point}@{turn}" for load, point, turn in TURNS], indirect=["load"]
)


@EVERYWHERE
def test_a_run_that_is_killed_anywhere_leaves_all_or_nothing(load: Load, point: Failpoint, turn: int) -> None:
    warehouse = load.stand.clone(load.template)
    with closing(load.start(warehouse, f"{point.value}=kill@{turn}")) as child:
        assert child.end() == -signal.SIGKILL, child.said
    check_state(load, warehouse, load.committed_at(point, turn))


@EVERYWHERE
def test_a_run_that_breaks_anywhere_leaves_all_or_nothing(
    load: Load, point: Failpoint, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves its connection as it was: in no transaction."""
    warehouse = load.stand.clone(load.template)
    with closing(psycopg2.connect(load.dsn(warehouse))) as loader:
        with monkeypatch.context() as armed:
            armed.setattr(failpoints, "_armed", failpoints.parse(f"{point.value}=raise@{turn}"))
            armed.setattr(failpoints, "_reached", Counter())
            # What breaks within a COPY comes as the COPY's error.
            with pytest.raises((failpoints.FailpointReached, errors.QueryCanceled), match=point.value):
                load.run(loader)
        assert loader.get_transaction_status() == TRANSACTION_STATUS_IDLE
        check_state(load, warehouse, load.committed_at(point, turn))


class Frozen(NamedTuple):
    """A run that stands still at a point."""

    name: str
    load: Load
    point: Failpoint
    warehouse: str
    child: Child


@contextmanager
def frozen_everywhere(loads: Loads, names: Iterable[str]) -> Iterator[list[Frozen]]:
    """Of these loads, for every point a run that stands still there."""
    places: list[tuple[str, Load, Failpoint, str]] = []
    for name in names:
        load: Load = getattr(loads, name)
        places += [(f"{name} at {point}", load, point, load.stand.clone(load.template)) for point in POINTS[name]]
    with ExitStack() as stack:
        found = [
            Frozen(*place, stack.enter_context(closing(place[1].start(place[3], f"{place[2].value}={FROZEN}"))))
            for place in places
        ]
        for run in found:
            run.child.freeze_at(run.point)
        yield found


FAULTS = {
    "source hangs up": ["extraction"],
    "warehouse hangs up": ["extraction", "files"],
    "server stops": ["extraction", "files"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_database_that_goes_away_anywhere_costs_one_rerun(loads: Loads, fault: str) -> None:
    stand = loads.extraction.stand
    with frozen_everywhere(loads, FAULTS[fault]) as frozen:
        if fault == "server stops":
            stand.cluster.stop("immediate")
        else:
            stand.hang_up(*(["shop"] if fault == "source hangs up" else [run.warehouse for run in frozen]))
        for run in frozen:
            run.child.thaw()
        ended = {run.name: run.child.end() for run in frozen}
        stand.cluster.start()
    wrong = []
    for name, load, point, warehouse, child in frozen:
        # A source that hangs up when all is read does no harm; whoever says it succeeded has committed.
        last = len(load.states) - 1
        committed = last if ended[name] == 0 else load.committed_at(point)
        if fault != "source hangs up" and ended[name] != 1 and load.committed_at(point) != last:
            wrong.append(f"{name}: ended with {ended[name]}, the fault went unnoticed: {child.said}")
        if load.digest(warehouse) != load.states[committed]:
            wrong.append(f"{name}: something is half there after {ended[name]}: {child.said}")
        if load.again(warehouse) != last - committed or load.digest(warehouse) != load.states[-1]:
            wrong.append(f"{name}: the re-run did not make it whole")
    assert wrong == []
    assert len(frozen) == sum(len(POINTS[name]) for name in FAULTS[fault])
    if fault == "source hangs up":
        assert 1 in ended.values(), "nobody noticed the source: this run proved nothing"
