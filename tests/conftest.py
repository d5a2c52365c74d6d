"""What all tests share: goldens, which are texts that a renderer has to produce again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests of interrupts need what a terminal gives.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What `make` was given for the tests is not for the commands that they run.
for name in ("STACK", "VM", "ARGS", "NAME", "FROM", "A", "B"):
    os.environ.pop(name, None)

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write the goldens anew from what is rendered; look at the difference before you keep it",
    )


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> Golden:
    """Holds a text against the golden file at a path."""

    def check(path: Path, text: str) -> None:
        if pytestconfig.getoption("--update-goldens"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"there is no golden {path.name}: run with --update-goldens"
        assert text == path.read_text()

    return check
