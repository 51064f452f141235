"""The shop that tests of the extraction look at, and the landing that tests of files fill."""

from __future__ import annotations

from tests.plugins.desk import desk
from tests.plugins.shop import world

__all__ = ["desk", "world"]
