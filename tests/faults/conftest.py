"""The faults are done to the same closed world that the tests of the models look at."""

from __future__ import annotations

from tests.dbt.conftest import books, deployed, world

__all__ = ["books", "deployed", "world"]
