"""How the tests are shared out when several processes run them (``pytest -n 2``): what shares something runs in one.

A file is a unit of work, unless it shares what is dear to make, or a thing this machine has only once, with others:
those files are one unit. Units are handed out longest first, so that the processes end together.
"""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# In the order they begin, the longest first; what is not named here follows, file by file.
SHARED = {
    # One deployed warehouse and the worlds that were closed in it (tests/dbt/conftest.py).
    "books": (
        "tests/dbt", "tests/faults/test_close_faults.py", "tests/faults/test_failed_close.py",
        "tests/faults/test_proof_can_fail.py", "tests/faults/test_proof_of_actions.py",
        "tests/faults/test_signed_exceptions.py", "tests/faults/test_locked_periods.py",
    ),
    # The ports that `make run` takes when nobody names others.
    "default ports": (
        "tests/plugins/test_run.py", "tests/plugins/test_airflow_local.py", "tests/plugins/test_local.py",
        "tests/plugins/test_walkthrough.py",
    ),
    # A server that tests stop, with a shop and a landing to load (tests/faults/conftest.py).
    "loads": ("tests/faults",),
    # Sandboxes that were played to their end (tests/plugins/sandbox/conftest.py).
    "sandboxes": ("tests/plugins/sandbox",),
}  # fmt: skip


def unit_of(test: str) -> str:
    """The unit that a test, named as pytest does ("tests/dbt/test_truth.py::test_it"), is part of."""
    path = PurePath(test.split("::", 1)[0])
    return next(
        (unit for unit, places in SHARED.items() if any(path.is_relative_to(place) for place in places)), str(path)
    )


class LongestFirst(LoadScopeScheduling):
    """Hands out units whole, those of :data:`SHARED` first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        first = next((unit for unit in SHARED if unit in self.workqueue), None)
        if first is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)
