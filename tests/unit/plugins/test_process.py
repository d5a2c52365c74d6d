from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lab.plugins import process
from lab.plugins.cancellation import Cancellation
from lab.plugins.failures import Cancelled


def test_lines_are_reported_as_they_come() -> None:
    seen: list[tuple[str, str]] = []
    finished = process.run(
        Cancellation(),
        ["/bin/sh", "-c", "printf 'a\\nb'; printf 'c\\r\\n' >&2; exit 3"],
        on_line=lambda *line: seen.append(line),
    )
    assert sorted(seen) == [("stderr", "c"), ("stdout", "a"), ("stdout", "b")]
    assert (finished.code, finished.ending, finished.stdout, finished.stderr) == (3, "exit status 3", "a\nb", "c\r\n")


def test_a_signal_is_named() -> None:
    assert process.run(Cancellation(), ["/bin/sh", "-c", "kill -9 $$"]).ending == "signal: killed"


def test_bytes_that_are_no_text() -> None:
    assert process.run(Cancellation(), ["printf", "\\377a"]).stdout == "\ufffda"


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        process.run(Cancellation(), ["/nowhere/at/all"])


def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    cancellation, ready = Cancellation(), tmp_path / "ready"
    script = f"sleep 60 & echo $! > {ready}; wait"
    timer = threading.Timer(0.5, cancellation.cancel)
    timer.start()
    begun = time.monotonic()
    finished = process.run(cancellation, ["/bin/sh", "-c", script])
    assert finished.ending == "signal: terminated"
    assert time.monotonic() - begun < 10
    assert ready.exists()


def test_nothing_starts_after_a_cancel(tmp_path: Path) -> None:
    cancellation, made = Cancellation(), tmp_path / "made"
    cancellation.cancel()
    with pytest.raises(Cancelled):
        process.run(cancellation, ["touch", str(made)])
    assert not made.exists()


def test_sleep_is_interrupted() -> None:
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.cancel).start()
    with pytest.raises(Cancelled):
        cancellation.sleep(60)
