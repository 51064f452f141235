"""Under a cap on memory a load streams: what it holds does not grow with what it reads."""

from __future__ import annotations

import os
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.stand import EXTRACT, LAND, Child, Landing, Shop

# Of address space: what pyarrow and pandas reserve at their import is half of it.
CAP_BYTES = 1 << 30
ROWS = int(os.environ.get("TIEOUT_CAPPED_ROWS", "150000"))
LINES = int(os.environ.get("TIEOUT_CAPPED_LINES", "200000"))
# A run over so small a part of them is what the large one is compared with.
PART = 20
# A file goes by the block of a megabyte, and some wait for COPY: the small one must be several of them.
LINES_PART = 5
LINES_GROWTH_KB_MAX = 18 << 10
# What the allocator may take more for the same work; the rows of the large run are far more.
GROWTH_KB_MAX = 12 << 10
# Not ru_maxrss, which a process inherits from the one that started it.
CAPPED = f"""
import atexit, re, resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, ({CAP_BYTES}, {CAP_BYTES}))
atexit.register(lambda: print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
"""


def peak_kb(child: Child) -> int:
    """The most memory that a run had at once, kB; it must have ended well."""
    with closing(child):
        assert child.end() == 0, child.said
    return int(re.findall(r"^peak (\d+)$", child.printed, re.MULTILINE)[0])


def report(capsys: pytest.CaptureFixture[str], what: str, read_bytes: int, peaks: list[int], part: int = PART) -> None:
    with capsys.disabled():
        print(f"\n{what}, {read_bytes >> 20} MB under a cap of {CAP_BYTES >> 20} MB: peak {peaks[1] >> 10} MB, "
              f"for a part of 1 in {part} {peaks[0] >> 10} MB")  # fmt: skip


def test_an_extraction_streams_under_a_cap(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """``TIEOUT_CAPPED_ROWS=5000000`` is the long run."""
    peaks = []
    for rows in (ROWS // PART, ROWS):
        source, warehouse = shop.stand.make_source(), shop.stand.clone("empty")
        shop.stand.execute(
            source,
            "insert into shop.orders select i, i, 'EUR', repeat(md5(i::text), 12) from generate_series(1, %s) i",
            rows,
        )
        peaks.append(peak_kb(shop.start(warehouse, source_dsn=shop.stand.cluster.dsn(source), code=CAPPED + EXTRACT)))
        assert shop.stand.ask(warehouse, "select count(*), sum(amount_minor) from raw.shop_orders") == [
            (rows, rows * (rows + 1) // 2)
        ]
    read = ROWS * 430
    report(capsys, f"{ROWS:,} rows", read, peaks)
    assert read > 4 * GROWTH_KB_MAX << 10, "so few rows fit into the allowance: this run proved nothing"
    assert peaks[1] - peaks[0] < GROWTH_KB_MAX


HEADER = (
    "Company Account,Merchant Account,Psp Reference,Merchant Reference,Payment Method,Creation Date,TimeZone,Type,"
    "Modification Reference,Gross Currency,Gross Debit (GC),Gross Credit (GC),Exchange Rate,Net Currency,"
    "Net Debit (NC),Net Credit (NC),Commission (NC),Markup (NC),Scheme Fees (NC),Interchange (NC),"
    "Payment Method Variant,Modification Merchant Reference,Batch Number,Reserved4,Booking Date,Booking Date TimeZone"
)


def write_settlement(path: Path, lines: int) -> int:
    """A settlement report of so many captures of 1.00 and the payout of their sum; the file's bytes."""
    moment = datetime(2026, 10, 19, tzinfo=UTC)
    with path.open("w") as report:
        report.write(HEADER + "\n")
        for number in range(1, lines + 1):
            at = (moment + timedelta(seconds=number % 86400)).strftime("%Y-%m-%d %H:%M:%S")
            report.write(
                f"Shop,ShopEU,PSP{number:09},ORDER-{number:09},visa,{at},CEST,Settled,MOD{number:09},EUR,,1.00,1,"
                f"EUR,,1.00,,,,,visadebit,,42,,2026-10-21 13:00:00,CEST\n"
            )
        report.write(
            f'Shop,ShopEU,,,,2026-10-21 12:00:00,CEST,MerchantPayout,"TX1 batch 42, Shop",,,,,EUR,{lines}.00,,'
            ",,,,,,42,,2026-10-21 13:00:00,CEST\n"
        )
    return path.stat().st_size


def test_a_settlement_file_streams_under_a_cap(
    landing: Landing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``TIEOUT_CAPPED_LINES=2000000`` is the long run."""
    peaks = []
    for lines in (LINES // LINES_PART, LINES):
        folder = tmp_path / str(lines)
        folder.mkdir()
        read = write_settlement(folder / "settlement.csv", lines)
        warehouse = landing.stand.clone("empty_books")
        peaks.append(peak_kb(landing.start(warehouse, folder=folder, code=CAPPED + LAND)))
        ((count, gross),) = landing.stand.ask(
            warehouse, "select count(*), sum(gross_minor) filter (where net_minor > 0) from raw.settlement_lines"
        )
        assert (count, gross) == (lines + 1, lines * 100)
    report(capsys, f"a settlement report of {LINES:,} lines", read, peaks, LINES_PART)
    assert peaks[1] - peaks[0] < LINES_GROWTH_KB_MAX
