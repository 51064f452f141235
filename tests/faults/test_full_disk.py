"""A disk that is really full: nothing partial, an error that says so, and one re-run loads once there is space.

A file system of the test's own has to be mounted, so these are collected with TIEOUT_FAULTS=long only.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors

from tests.faults.conftest import Loads
from tests.faults.stand import Shop, Stand, fill_warehouse
from tests.faults.test_memory import write_settlement
from tieout.postgres import ORDINARY_USER, Cluster, PostgresError, free_port

AMPLE = "1g"


@pytest.fixture
def small_disk() -> Iterator[Callable[[str], Path]]:
    """``small_disk(size)``: a folder that holds no more than that; a second call gives the same folder that size."""
    folder = Path(tempfile.mkdtemp(prefix="tieout-disk-", dir="/tmp"))
    folder.chmod(0o755)
    mounted = False

    def size(bytes_max: str) -> Path:
        nonlocal mounted
        options = f"size={bytes_max},mode=0755" + (",remount" if mounted else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here, so no disk can be filled: {done.stderr.strip()}")
        mounted = True
        return folder

    yield size
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)
    shutil.rmtree(folder)


def give_to_postgres(folder: Path) -> Path:
    owner = pwd.getpwnam(ORDINARY_USER)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return folder


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as full:
        while True:
            full.write(b"\0" * 4096)


@pytest.mark.parametrize(("name", "table"), [("extraction", "shop_orders"), ("files", "bank_entries")])
def test_a_full_tablespace_leaves_nothing_and_the_rerun_loads(
    loads: Loads, small_disk: Callable[[str], Path], name: str, table: str
) -> None:
    load = getattr(loads, name)
    warehouse = load.stand.clone(load.template)
    space = f"small_{name}"
    folder = give_to_postgres(small_disk("40m"))
    load.stand.cluster.execute(f"create tablespace {space} location '{folder}'")
    try:
        # Pages count as full early: the few rows of a test do not fit into those that are there.
        load.stand.execute(warehouse, f"alter table raw.{table} set (fillfactor = 10)")
        load.stand.execute(warehouse, f"alter table raw.{table} set tablespace {space}")
        ballast = folder / "ballast"
        with pytest.raises(OSError, match="No space left"):
            fill(ballast)
        with pytest.raises(errors.DiskFull, match=r"(?s)No space left on device.*Check free disk space"):
            load.load(warehouse)
        assert load.digest(warehouse) == load.states[0]
        ballast.unlink()
        assert load.again(warehouse) == len(load.states) - 1
        assert load.digest(warehouse) == load.states[-1]
    finally:
        load.stand.drop_clones()
        load.stand.cluster.execute(f"drop tablespace {space}")


def test_a_warehouse_whose_disk_is_full_stops_and_loses_nothing(
    loads: Loads, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    """Data and log on one disk, as on most machines: the server itself may go down, and what it had stays."""
    shop = loads.extraction
    folder = small_disk("160m")
    cluster = Cluster(folder / "pg", free_port())
    try:
        cluster.start()
        cluster.execute("create database books")
        fill_warehouse(cluster, "books", shop.registry)
        source = shop.stand.make_source()
        shop.stand.execute(
            source,
            "insert into shop.orders select i, 1, 'EUR', (select string_agg(md5(random()::text), '') "
            "from generate_series(1, 50) where i = i) from generate_series(1, 60000) i",
        )
        books = Shop(Stand(cluster), shop.project, shop.registry)
        source_dsn = shop.stand.cluster.dsn(source)
        with pytest.raises(psycopg2.Error) as caught:
            books.load("books", source_dsn=source_dsn)
        assert "No space left on device" in str(caught.value) + cluster.log.read_text()
        small_disk(AMPLE)
        cluster.stop("immediate")
        cluster.start()
        assert books.stand.ask("books", "select count(*) from ops.batches") == [(0,)]
        assert books.stand.ask("books", "select count(*) from raw.shop_orders") == [(0,)]
        assert [batch.row_count for batch in books.load("books", source_dsn=source_dsn)] == [60000, 0]
        assert books.stand.ask("books", "select sum(amount_minor)::bigint from raw.shop_orders") == [(60000,)]
    finally:
        cluster.stop("immediate")


def test_a_server_that_cannot_start_on_a_full_disk_says_so(small_disk: Callable[[str], Path]) -> None:
    folder = small_disk("12m")
    cluster = Cluster(folder / "pg", free_port())
    with pytest.raises(PostgresError, match=r"(?s)No space left on device.*free some space and try again"):
        cluster.start()
    small_disk(AMPLE)
    try:
        cluster.start()
        cluster.execute("select 1")
    finally:
        cluster.stop("immediate")


def test_a_full_scratch_disk_leaves_nothing_and_the_rerun_loads(
    loads: Loads, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    """A file is copied to this machine's own disk before it is read."""
    landing = loads.files
    warehouse = landing.stand.clone("empty_books")
    read = write_settlement(tmp_path / "settlement.csv", 20_000)
    # Too small for the copy, then large enough.
    for size, succeeds in ((read // 2, False), (20 * read, True)):
        scratch = small_disk(str(size))
        with closing(landing.start(warehouse, folder=tmp_path, environment={"TMPDIR": str(scratch)})) as child:
            assert child.end() == (0 if succeeds else 1), child.said
        assert list(scratch.iterdir()) == [], "temporary files were left behind"
        ((rows,),) = landing.stand.ask(warehouse, "select count(*) from raw.settlement_lines")
        if not succeeds:
            assert "No space left on device. Free some space there, or point TMPDIR at another disk" in child.said
            assert (rows, landing.stand.ask(warehouse, "select count(*) from ops.files")) == (0, [(0,)])
    assert rows == 20_001
