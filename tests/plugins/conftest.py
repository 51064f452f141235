"""The shop that tests of the extraction look at, the landing that tests of files fill, and a home for Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from tests.plugins.desk import desk
from tests.plugins.shop import world

__all__ = ["desk", "world"]

# Airflow writes its configuration there when it is first imported, which tests do while they are collected.
if "AIRFLOW_HOME" not in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="tieout-airflow-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
