"""Named points at which a test makes this process fail; nothing happens at them otherwise.

``TIEOUT_FAILPOINTS="snapshot.before_commit=kill"`` arms one, commas separate several. An action is ``kill`` (the
process dies by SIGKILL), ``raise`` (:class:`FailpointReached`), ``exit`` (no clean-up, exit code 70) or
``sleep:SECONDS`` (after a line ``reached NAME`` on standard error). ``NAME=kill@2`` acts when the point is reached
for the second time, and only then. For tests alone: an environment that sets it loses runs, never rows.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import Counter
from enum import StrEnum

VARIABLE = "TIEOUT_FAILPOINTS"
EXIT_CODE = 70
SPELLING = re.compile(r"([a-z_.]+)=(kill|raise|exit|sleep:\d{1,3}(?:\.\d+)?)(?:@([1-9]\d?))?")


class Failpoint(StrEnum):
    """Every point, in the order a run reaches them: a snapshot's; a file's, with those of a batch; a re-close's.

    Tests go through this list: a new one is tested by being here.
    """

    BEFORE_SOURCE = "snapshot.before_source"
    SOURCE_CONNECTED = "snapshot.source_connected"
    SNAPSHOT_TAKEN = "snapshot.snapshot_taken"
    BATCH_OPENED = "batch.opened"
    MID_COPY = "snapshot.mid_copy"
    BEFORE_SWEEP = "snapshot.before_sweep"
    MID_SWEEP = "snapshot.mid_sweep"
    BEFORE_TOTALS = "batch.before_totals"
    BEFORE_MANIFEST = "batch.before_manifest"
    AFTER_MANIFEST = "batch.after_manifest"
    BEFORE_COMMIT = "snapshot.before_commit"
    AFTER_COMMIT = "snapshot.after_commit"
    FILE_COPIED = "landing.copied"
    FILE_ENTERED = "landing.file_entered"
    FILE_READ = "landing.read"
    DOCUMENTS_ENTERED = "landing.documents_entered"
    BEFORE_FILE_COMMIT = "landing.before_commit"
    AFTER_FILE_COMMIT = "landing.after_commit"
    BEFORE_QUARANTINE = "landing.before_quarantine"
    AFTER_QUARANTINE = "landing.after_quarantine"
    RECLOSE_OPENED = "reclose.opened"
    RECLOSE_STEP_BUILT = "reclose.step_built"
    RECLOSE_CLOSE_BUILT = "reclose.close_built"
    RECLOSE_BEFORE_PUBLISH = "reclose.before_publish"
    RECLOSE_AFTER_PUBLISH = "reclose.after_publish"


class FailpointReached(RuntimeError):
    """The armed point was reached; the message is its name."""


class FailpointSpellingError(ValueError):
    """The environment arms something that is not there, or not so."""


def armed(point: Failpoint) -> bool:
    """Whether anything happens at this point."""
    return point in _armed


def reach(point: Failpoint) -> None:
    """Do what the point is armed with; nothing, at the cost of one look, where it is not.

    :raises FailpointReached: it is armed with ``raise``.
    """
    if _armed and point in _armed:
        _act(point)


def parse(text: str) -> dict[Failpoint, tuple[str, int]]:
    """The points that a setting arms: point to (action, at which time it acts).

    :raises FailpointSpellingError: a name or an action is unknown.
    """
    known: dict[str, Failpoint] = {point.value: point for point in Failpoint}
    found = {}
    for part in filter(None, text.split(",")):
        match = SPELLING.fullmatch(part.strip())
        if match is None or match[1] not in known:
            raise FailpointSpellingError(
                f"{VARIABLE}: {part!r} is no failpoint; write NAME=kill|raise|exit|sleep:SECONDS[@TIME] "
                f"with a name of {', '.join(known)}"
            )
        found[known[match[1]]] = (match[2], int(match[3] or 1))
    return found


def _act(point: Failpoint) -> None:
    action, turn = _armed[point]
    _reached[point] += 1
    if _reached[point] != turn:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "exit":
        os._exit(EXIT_CODE)
    elif action == "raise":
        raise FailpointReached(point.value)
    else:
        sys.stderr.write(f"reached {point.value}\n")
        sys.stderr.flush()
        time.sleep(float(action.removeprefix("sleep:")))


_armed = parse(os.environ.get(VARIABLE, ""))
_reached: Counter[Failpoint] = Counter()
