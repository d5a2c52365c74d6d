"""How long the lab environment takes on this machine: `make preview` of an empty stack, `make up`, a second one, `make down`.

Measured as a user sees them, make included, on a stack of its own beside any other; nothing is left behind. Tools are not part of it:
`make tools` gets them first. Needs root and Linux.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.trial import Run, Trial, TrialError, trial

STACK = "bench"
CIDRS = {"cluster": "10.98.0.0/24", "vm": "10.98.1.0/24"}
CHAIN = "the longest chain (seconds):"
STEPS = (
    ("make preview, empty stack", "preview"),
    ("make up", "up"),
    ("make up again", "up"),
    ("make down", "down"),
)


def machine() -> str:
    """This machine in a line: processors, memory, kernel, and what else keeps it busy."""
    model = _field("/proc/cpuinfo", "model name") or platform.machine()
    memory = int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]) / 2**20
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def _field(path: str, name: str) -> str | None:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def measure(stack: Trial, console: Console) -> Iterator[Run]:
    """One round of all steps, in their order.

    Raises:
        TrialError: a step failed.
    """
    for title, target in STEPS:
        with console.status(f"{title} …"):
            yield stack.make(target).check()


def chain(run: Run) -> str:
    """What `up` says of where its time went."""
    return " ".join(run.text.partition(CHAIN)[2].split())


def report(rounds: list[list[Run]], console: Console) -> None:
    """Print the table, and where the time of the first `up` of each round went."""
    table = Table("seconds", *(f"run {number}" for number in range(1, len(rounds) + 1)), box=None, pad_edge=False)
    if len(rounds) > 1:
        table.add_column("median")
    for (title, _), runs in zip(STEPS, zip(*rounds, strict=True), strict=True):
        seconds = [run.seconds for run in runs]
        shown = seconds if len(seconds) == 1 else [*seconds, median(seconds)]
        table.add_row(title, *(f"{value:.1f}" for value in shown))
    console.print(table)
    for number, runs in enumerate(rounds, 1):
        console.print(f"run {number}, the longest chain of make up: {chain(runs[1])}", highlight=False)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="how often to measure everything (default: 1)")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    if sys.platform != "linux" or os.geteuid() != 0:
        parser.error("the lab's machines need Linux and root")
    console = Console()
    console.print(machine(), highlight=False)
    try:
        with tempfile.TemporaryDirectory() as folder, trial(Path(folder), STACK, CIDRS) as stack:
            report([list(measure(stack, console)) for _ in range(arguments.runs)], console)
    except TrialError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
