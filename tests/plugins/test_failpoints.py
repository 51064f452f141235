"""Failpoints: what arms them, what they do, and that unarmed ones do nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tieout.failpoints import EXIT_CODE, VARIABLE, Failpoint, FailpointSpellingError, armed, parse, reach

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
from tieout.failpoints import Failpoint, reach
for turn in (1, 2, 3):
    reach(Failpoint.BEFORE_COMMIT)
    print(turn, flush=True)
"""


def run(setting: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD],
        env={**os.environ, VARIABLE: setting, "PYTHONPATH": str(ROOT / "plugins")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_unarmed_points_do_nothing() -> None:
    assert not any(armed(point) for point in Failpoint)
    for point in Failpoint:
        reach(point)
    done = run("")
    assert (done.returncode, done.stdout.split()) == (0, ["1", "2", "3"])


@pytest.mark.parametrize(
    ("action", "exit_code", "printed", "said"),
    [
        ("kill", -signal.SIGKILL, [], ""),
        ("exit", EXIT_CODE, [], ""),
        ("raise", 1, [], "FailpointReached: snapshot.before_commit"),
        ("raise@3", 1, ["1", "2"], "FailpointReached: snapshot.before_commit"),
        ("sleep:0.1@2", 0, ["1", "2", "3"], "reached snapshot.before_commit"),
        ("kill@4", 0, ["1", "2", "3"], ""),
    ],
)
def test_an_armed_point_acts_once(action: str, exit_code: int, printed: list[str], said: str) -> None:
    done = run(f"snapshot.before_commit={action}")
    assert (done.returncode, done.stdout.split()) == (exit_code, printed), done.stderr
    assert said in done.stderr


def test_several_points_are_armed_at_once() -> None:
    assert parse("snapshot.before_commit=kill, batch.opened=sleep:5@2") == {
        Failpoint.BEFORE_COMMIT: ("kill", 1),
        Failpoint.BATCH_OPENED: ("sleep:5", 2),
    }


@pytest.mark.parametrize(
    "setting", ["snapshot.nowhere=kill", "snapshot.before_commit", "snapshot.before_commit=explode", "x=sleep"]
)
def test_a_setting_that_arms_nothing_is_refused(setting: str) -> None:
    with pytest.raises(FailpointSpellingError, match=re.escape(repr(setting)) + r".*with a name of snapshot\.before_"):
        parse(setting)


def test_every_point_stands_in_the_code_once() -> None:
    """A point that nothing reaches would make the test that goes through all of them prove less than it says."""
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "plugins" / "tieout").rglob("*.py"))
        if path.name != "failpoints.py"
    )
    counts = {point.name: len(re.findall(rf"\breach\(Failpoint\.{point.name}\)", code)) for point in Failpoint}
    assert counts == dict.fromkeys(counts, 1)
