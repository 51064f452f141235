"""The deployed warehouse and the closed worlds, made once for all tests of models and of faults."""

from __future__ import annotations

from datetime import date

import pytest

from tests.dbt import given
from tests.dbt.worlds import EMPTY, Told, Warehouse, World
from tieout.postgres import Cluster

# Payments a day and seed of the world that the faults are done to, and its closes kept before their publication.
SMALL = (60, 1)
FAULTY_DAYS = (date(2026, 10, 27), date(2026, 10, 28))
# The scenarios' close that takes rows and reports for the second time; faults are done to it too.
RESTATED_DAY = given.CLOSES[1]

# Fixtures belong to a folder, and two folders use these: what they make is kept with the session.
_WAREHOUSE = pytest.StashKey[Warehouse]()
_TOLD = pytest.StashKey[Told]()
_WORLD = pytest.StashKey[World]()


@pytest.fixture(scope="session")
def deployed(request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse as it is deployed: migrations, raw tables, seeds, empty marts, reader views; no batch yet."""
    stash = request.config.stash
    if _WAREHOUSE not in stash:
        warehouse = Warehouse(cluster, tmp_path_factory.mktemp("books"))
        warehouse.deploy()
        stash[_WAREHOUSE] = warehouse
    return stash[_WAREHOUSE]


@pytest.fixture
def books(deployed: Warehouse) -> Warehouse:
    """The deployed warehouse, empty again."""
    deployed.restore(EMPTY)
    return deployed


@pytest.fixture(scope="session")
def told(request: pytest.FixtureRequest, deployed: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The three closes of all scenarios."""
    stash = request.config.stash
    if _TOLD not in stash:
        made = Told(deployed, tmp_path_factory.mktemp("told"))
        made.play(keep=(RESTATED_DAY,))
        stash[_TOLD] = made
    return stash[_TOLD]


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest, deployed: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The small sandbox after the four closes of `make run`."""
    stash = request.config.stash
    if _WORLD not in stash:
        made = World(deployed, tmp_path_factory.mktemp("world"), *SMALL)
        made.play(keep=FAULTY_DAYS)
        stash[_WORLD] = made
    return stash[_WORLD]
