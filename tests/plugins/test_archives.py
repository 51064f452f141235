"""Archives: opened within limits, looked at whole before anything of them is loaded; members are files of their own."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.desk import Desk, adyen, rates, statement
from tieout.landing import archives
from tieout.landing.archives import Limits, RefusedArchive, is_archive, unpack

SMALL = Limits(members=3, directory_bytes=4096, unpacked_bytes=100_000, ratio=20, ratio_from_bytes=10_000)


def zipped(*members: tuple[str | zipfile.ZipInfo, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = 0o120777 << 16
    return entry


def encrypted(data: bytes) -> bytes:
    """The same zip with the mark of an encrypted member, in its header and in the directory."""
    changed = bytearray(data)
    changed[6] |= 1
    changed[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def noise(size: int) -> bytes:
    return os.urandom(size)


def test_members_are_loaded_as_files_of_their_own(desk: Desk) -> None:
    desk.put("day.zip", zipped(("a/1.csv", adyen({1: [("A", 100)]})), ("s.sta", statement(1, 0, 5)), ("bad.csv", "?"),
                               ("none.csv", ""), (".hidden", "x"), ("__MACOSX/a", "x"), ("a/", "")))  # fmt: skip
    desk.put("rates.csv.gz", gzip.compress(rates(27).encode()))
    outcomes = {outcome.uri.removeprefix(f"{desk.folder}/"): outcome for outcome in desk.run()}
    assert {uri: outcome.outcome for uri, outcome in outcomes.items()} == {
        "day.zip!a/1.csv": "loaded", "day.zip!bad.csv": "quarantined", "day.zip!none.csv": "empty",
        "day.zip!s.sta": "loaded", "rates.csv.gz!rates.csv": "loaded",
    }  # fmt: skip
    assert desk.ask("select name, status from ops.files order by name") == [
        ("1.csv", "loaded"), ("bad.csv", "quarantined"), ("rates.csv", "loaded"), ("s.sta", "loaded")
    ]  # fmt: skip
    before = desk.traces()
    # The same member in another archive, or outside of any, is known by its bytes.
    desk.put("again.zip", zipped(("other name.csv", adyen({1: [("A", 100)]}))))
    desk.put("plain.csv", rates(27))
    known = {outcome.name: outcome.outcome for outcome in desk.run()}
    assert (known["other name.csv"], known["plain.csv"], known["1.csv"]) == ("known", "known", "known")
    assert desk.traces() == before


def test_members_that_are_held_are_tried_again(desk: Desk) -> None:
    desk.put("a.zip", zipped(("1.sta", statement(1, 0, 5)), ("3.sta", statement(3, 6, 1))))
    assert desk.outcomes() == {"1.sta": "loaded", "3.sta": "held"}
    desk.put("b.sta", statement(2, 5, 1))
    assert desk.outcomes() == {"1.sta": "known", "3.sta": "loaded", "b.sta": "loaded"}


GOOD = ("good.csv", rates(27))
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "ratio": (lambda: zipped(GOOD, ("bomb", b"0" * 90_000)), "unpacks to more than 20 times"),
    "size": (lambda: zipped(GOOD, ("large", noise(100_000))), "larger than 100000 bytes"),
    "members": (lambda: zipped(*((f"{n}.csv", "x") for n in range(4))), "4 members, 3 are allowed"),
    "directory": (lambda: zipped(GOOD, ("x" * 5000, "x")), "directory is larger than 4096"),
    "up": (lambda: zipped(GOOD, ("../x.csv", "x")), "leads out of the archive"),
    "up inside": (lambda: zipped(GOOD, ("a/../../x.csv", "x")), "leads out of the archive"),
    "absolute": (lambda: zipped(GOOD, ("/etc/x.csv", "x")), "leads out of the archive"),
    "backslash": (lambda: zipped(GOOD, ("..\\x.csv", "x")), "leads out of the archive"),
    "drive": (lambda: zipped(GOOD, ("C:x.csv", "x")), "leads out of the archive"),
    "link": (lambda: zipped(GOOD, (link("x.csv"), "/etc/passwd")), "is a link or a device"),
    "nested": (lambda: zipped(GOOD, ("in.zip", zipped(GOOD))), "in.zip is an archive within the archive"),
    "nested gzip": (lambda: gzip.compress(gzip.compress(b"x")), "is an archive within the archive"),
    "tar in gzip": (lambda: gzip.compress(tarred("a.csv", noise(2000))), "is an archive within the archive"),
    "tar": (lambda: tarred("a.csv", b"x"), "a tar archive is not opened"),
    "encrypted": (lambda: encrypted(zipped(GOOD)), "is encrypted"),
    "twins": (lambda: zipped(GOOD, ("gold.csv", "x")).replace(b"gold.csv", b"good.csv"), "two members are named"),
    "no name": (lambda: zipped(GOOD, (".", "x")), "leads out of the archive"),
    "lzma": (lambda: zipped(GOOD, method=zipfile.ZIP_LZMA), "compressed in an unusual way"),
    "office": (lambda: zipped(("[Content_Types].xml", "<x/>"), ("xl/sheet.xml", "<x/>")), "an office document"),
    "nothing": (lambda: zipped(), "holds no file"),
    "only folders": (lambda: zipped(("a/", "")), "holds no file"),
    "gzip ratio": (lambda: gzip.compress(b"0" * 90_000), "unpacks to more than 20 times"),
    "gzip cut": (lambda: gzip.compress(noise(5000))[:-100], "damaged or cut"),
    "gzip checksum": (lambda: gzip.compress(b"abc" * 99)[:-8] + b"\x00" * 8, "damaged or cut"),
    "gzip and more": (lambda: gzip.compress(b"abc") + b"rubbish", "damaged or cut"),
    "zip cut": (lambda: zipped(GOOD, ("b", noise(5000)))[:-60], "damaged or cut"),
    "zip checksum": (lambda: zipped(GOOD, method=zipfile.ZIP_STORED).replace(b"1.1", b"1.9"), "damaged or cut"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_that_breaks_a_limit_is_refused_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """FAULTS 55. Nothing of it is loaded, nothing is written outside, and it is remembered."""
    make, said = HOSTILE[name]
    monkeypatch.setattr(archives, "LIMITS", SMALL)
    desk.put("x.bin", make())
    (outcome,) = desk.run()
    assert (outcome.outcome, outcome.name) == ("quarantined", "x.bin")
    assert re.search(said, str(outcome.reason)), outcome.reason
    assert desk.traces() == {"ops.files": 1}
    assert [path.name for path in desk.folder.parent.rglob("*.csv")] == []
    assert desk.outcomes() == {"x.bin": "known"}


def test_every_cut_of_an_archive_is_refused(tmp_path: Path) -> None:
    for whole in (zipped(GOOD, ("b", noise(60))), gzip.compress(noise(60))):
        for size in range(2, len(whole)):
            path = tmp_path / "cut"
            path.write_bytes(whole[:size])
            if not is_archive(path):
                assert size < 4
                continue
            with pytest.raises(RefusedArchive):
                unpack(path, "cut", tmp_path / f"{len(whole)}-{size}")


def test_what_the_directory_admits_is_refused_before_a_byte_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(GOOD, ("bomb", b"0" * 90_000)))
    with pytest.raises(RefusedArchive, match="unpacks to more than 20 times"):
        unpack(path, path.name, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_a_directory_that_lies_about_sizes_is_found_out(tmp_path: Path) -> None:
    """The header says ten bytes, the stream holds a bomb: what comes out is counted, not what was promised."""
    data = bytearray(zipped(("bomb", b"0" * 90_000)))
    for at in (22, data.index(b"PK\x01\x02") + 24):
        struct.pack_into("<L", data, at, 10)
    path = tmp_path / "liar.zip"
    path.write_bytes(bytes(data))
    with pytest.raises(RefusedArchive):
        unpack(path, path.name, tmp_path / "out", SMALL)
    assert sum(each.stat().st_size for each in (tmp_path / "out").rglob("*") if each.is_file()) <= 100_000


@settings(max_examples=60)
@given(st.data())
def test_no_damage_is_anything_but_refused(data: st.DataObject) -> None:
    """FAULTS 55: bytes are changed, cut out and doubled; it unpacks or is refused, and no other error comes out."""
    whole = data.draw(st.sampled_from([zipped(GOOD, ("b", "x" * 50)), gzip.compress(b"abc" * 20)]))
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed"
        path.write_bytes(bytes(changed))
        if is_archive(path):
            with contextlib.suppress(RefusedArchive):
                unpack(path, "changed", Path(folder) / "out", SMALL)


def test_a_long_name_is_cut_for_the_disk_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(("✓" * 400 + ".csv", "x")))
    (member,) = unpack(path, "a.zip", tmp_path / "out")
    assert len(member.name) == 404
    assert member.path.read_text() == "x"


CHILD = """
import resource, sys
from pathlib import Path
from tieout.landing.archives import Limits, RefusedArchive, unpack
resource.setrlimit(resource.RLIMIT_AS, (160 << 20, 160 << 20))
try:
    unpack(Path(sys.argv[1]), "x.gz", Path(sys.argv[2]))
except RefusedArchive as refused:
    print(refused)
"""


def test_a_bomb_is_stopped_in_little_memory(tmp_path: Path) -> None:
    """100 MB of zeros in 100 kB, with the limits as they are, in little memory."""
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as bomb:
        for _ in range(100):
            bomb.write(bytes(1 << 20))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": "plugins"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "unpacks to more than 250 times" in done.stdout, done.stderr
    assert sum(each.stat().st_size for each in (tmp_path / "out").rglob("*")) < 128 << 20
