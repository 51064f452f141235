"""The faults are done to the same closed world that the tests of the models look at, and to loads on a server apart."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.dbt.conftest import books, deployed, told, world
from tests.faults.stand import Landing, Load, Shop, Stand
from tieout.postgres import Cluster, free_port

__all__ = ["books", "deployed", "told", "world"]

# Mounting a file system needs rights that a test run may not have: not collected, instead of skipped every time.
collect_ignore = [] if os.environ.get("TIEOUT_FAULTS") == "long" else ["test_full_disk.py"]


class Loads(NamedTuple):
    """What can be loaded under a fault."""

    extraction: Shop
    files: Landing


@pytest.fixture(scope="session")
def made() -> Iterator[Loads]:
    """Both loads on a server of their own, which tests stop."""
    directory = Path(tempfile.mkdtemp(prefix="tieout-faults-", dir="/tmp"))
    directory.chmod(0o755)
    cluster = Cluster(directory / "pg", free_port())
    try:
        cluster.start()
        # Servers die here, the machine does not: what the operating system was given is safe without a disk's word.
        cluster.execute("alter system set fsync = off")
        cluster.execute("select pg_reload_conf()")
        stand = Stand(cluster)
        yield Loads(Shop.made(stand, directory), Landing.made(stand, directory))
    finally:
        cluster.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def loads(made: Loads) -> Iterator[Loads]:
    """Both loads; the warehouses a test makes are gone after it."""
    yield made
    made.extraction.stand.drop_clones()


@pytest.fixture
def shop(loads: Loads) -> Shop:
    """The shop's extraction."""
    return loads.extraction


@pytest.fixture
def landing(loads: Loads) -> Landing:
    """The landing's files."""
    return loads.files


@pytest.fixture(params=Loads._fields)
def load(request: pytest.FixtureRequest, loads: Loads) -> Load:
    """The one, then the other."""
    found: Load = getattr(loads, request.param)
    return found
