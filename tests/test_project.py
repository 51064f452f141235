"""Truths about the repository's own files: pins, package hosts, the Makefile and what CI runs."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==([0-9][0-9A-Za-z.+!]*)")


def pins(name: str) -> dict[str, str]:
    """The exact versions a requirements file asks for, by package."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith(("#", "-r ")) or not line:
            continue
        pin = PIN.fullmatch(line)
        assert pin is not None, f"{name}: {line!r} is no exact pin"
        assert pin[1] not in found, f"{name} pins {pin[1]} twice"
        found[pin[1]] = pin[2]
    return found


def tracked() -> list[Path]:
    """The repository's files as git has them."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def canonical(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def test_everything_declared_is_pinned() -> None:
    declared = project()
    runtime = {canonical(entry) for entry in declared["project"]["dependencies"]}  # type: ignore[index]
    tools = {canonical(entry) for entry in declared["dependency-groups"]["dev"]}  # type: ignore[index]
    assert runtime <= set(pins("requirements.txt"))
    assert tools <= set(pins("requirements-dev.txt"))


def test_the_two_files_do_not_contradict_each_other() -> None:
    assert not set(pins("requirements.txt")) & set(pins("requirements-dev.txt"))
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_the_pins_are_what_is_tested() -> None:
    wrong = {}
    for name, wanted in {**pins("requirements.txt"), **pins("requirements-dev.txt")}.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "missing"
        if found != wanted:
            wrong[name] = (wanted, found)
    assert not wrong, "run `make test`, which installs the pins"


def test_no_package_host_is_named_anywhere() -> None:
    host = re.compile(r"index-url|--find-links|pypi\.org|pythonhosted|/simple/|registry\.npmjs", re.IGNORECASE)
    # The Makefile hands pip's own setting on; this file has the pattern.
    allowed = {ROOT / "Makefile", Path(__file__)}
    for path in tracked():
        if path in allowed or path.suffix in (".png", ".ico"):
            continue
        assert not host.search(path.read_text(errors="replace")), path


def test_the_makefile_names_no_host() -> None:
    assert not re.search(r"https?://", (ROOT / "Makefile").read_text())


def test_bare_make_prints_help_and_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
    bare = ["make", "--no-print-directory"]
    shown = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make (\w+)", shown, re.MULTILINE)) == targets
    assert targets >= {"help", "run", "up", "test", "clean", "lint", "docs"}


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert re.search(r"^exec make test$", text, re.MULTILINE)


def test_no_failure_is_swallowed() -> None:
    for name in ("Makefile", ".ci/run"):
        for line in (ROOT / name).read_text().splitlines():
            # uv is a convenience: pip does its work when it cannot be installed, or knows no index.
            assert "|| true" not in line or "$(UV)" in line or "pip config" in line, f"{name}: {line}"


def test_state_is_ignored_and_never_committed() -> None:
    ignored = subprocess.run(["git", "check-ignore", ".tieout/x", "plugins/tieout.egg-info/x"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    assert not [path for path in tracked() if ".tieout" in path.relative_to(ROOT).parts]


def test_airflow_does_not_import_the_package_file_by_file() -> None:
    lines = (ROOT / "plugins" / ".airflowignore").read_text().splitlines()
    assert "tieout/" in lines


@pytest.mark.parametrize("path", [path for path in tracked() if path.parts[-3:-1] == ("plugins", "tieout")], ids=str)
def test_no_module_grows_past_500_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
