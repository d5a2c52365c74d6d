"""Gets every tool that is missing, several at a time, and says what is going on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.tools import artifacts, found, plugins, recipes
from lab.tools.cache import Slot, Source, log_file
from lab.tools.found import Found
from lab.tools.job import Job, Processes, ToolError
from lab.tools.official import Publishers, download
from lab.tools.progress import Progress
from lab.tools.recipes import PLUGINS, plugin_release, with_needs
from lab.tools.tool import Tool

NETWORK_JOBS = 4
"""How many tools wait for the network at a time; builds have a limit of their own."""

TAIL_LINES = 15


class NeedMissingError(ToolError):
    """A tool was not even tried, because one that it is made from or with is not there."""


class Installer:
    """One run: a thread per missing tool, which waits for what it needs and for its turn."""

    def __init__(self, tools: Sequence[Tool], jobs: int, quiet: bool = False) -> None:
        """Look at what is there already, and ask the publishers of what is not.

        Args:
            tools: what to get, with all that they need.
            jobs: how many builds run at a time.
            quiet: say nothing when there is nothing to do.
        """
        self._tools = tools
        self._progress = Progress()
        self._running = Processes()
        self._network = threading.Semaphore(NETWORK_JOBS)
        self._builds = threading.Semaphore(jobs)
        self._there = {tool.name: there for tool in tools if (there := found.find(tool))}
        self._silent = quiet and len(self._there) == len(tools)
        self._missing_plugins = [name for name in PLUGINS if not plugins.installed(name)]
        releases = [tool.official for tool in tools if tool.official and tool.name not in self._there]
        self._publishers = Publishers([*releases, *map(plugin_release, self._missing_plugins)])
        self._futures: dict[str, Future[Found]] = {}

    def run(self) -> int:
        """Get what is missing.

        Returns:
            0 when everything is there, 1 when something is not, 130 when interrupted.
        """
        pool = ThreadPoolExecutor(max_workers=len(self._tools))
        try:
            with _terminate_as_interrupt(), self._progress.heartbeat():
                # the table names a tool after those that take longer, not after those it needs: hence all futures first
                self._futures = {tool.name: Future[Found]() for tool in self._tools}
                for tool in self._tools:
                    pool.submit(self._settle, tool)
                failed = [tool.name for tool in self._tools if self._futures[tool.name].exception()]
                self._publish()
        except KeyboardInterrupt:
            self._running.stop()
            for future in self._futures.values():
                future.cancel()
            print("Interrupted. Run it again to go on from here: what is done stays.", file=sys.stderr)
            return 130
        finally:
            pool.shutdown(wait=True)
        if failed or not self._silent:
            self._print_table()
        if failed:
            print(
                f"Missing: {', '.join(failed)}. Run it again to go on from here: what is done stays.", file=sys.stderr
            )
        return 1 if failed else 0

    def _settle(self, tool: Tool) -> None:
        """Give the tool's future its result, the tool or why there is none."""
        future = self._futures[tool.name]
        try:
            there = self._there.get(tool.name) or self._make(tool)
            found.link(tool, there)
        except Exception as error:
            self._tell_failure(tool, error)
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(there)

    def _make(self, tool: Tool) -> Found:
        place = found.slot(tool)
        with self._progress.activity(tool.name, "waiting for another process that makes it", quiet=True), place.lock():
            finished = found.in_cache(tool)  # it may have been made while this one waited
            if finished:
                return finished
            source, seconds = self._fill(tool, place)
            receipt = place.finish(source, seconds, hash_files=tool.hash_files)
        self._progress.say(tool.name, f"{tool.version} {source}, {receipt.seconds:.0f} s")
        made = found.in_cache(tool)
        assert made
        return made

    def _fill(self, tool: Tool, place: Slot) -> tuple[Source, float]:
        """Make the tool in its partial folder; the seconds do not count the time spent waiting for others."""
        if place.partial.exists() and not tool.keep_partial:
            shutil.rmtree(place.partial)
        place.partial.mkdir(parents=True, exist_ok=True)
        seconds = self._download(tool, place.partial)
        if seconds is not None:
            return "official", seconds
        if recipes.HERE != recipes.LAB:
            whose = "its publisher cannot be reached" if tool.official else "it has no official release"
            raise ToolError(f"{tool.name} {tool.version}: {whose}, and on {recipes.HERE} nothing is built")
        job = self._job(tool, place.partial)
        spent = 0.0
        if fetching := [step for step in tool.steps if step.fetches]:
            with self._turn(self._network, tool, "fetching") as begun:
                for step in fetching:
                    step.fetch(job)
            spent += time.monotonic() - begun
        with self._progress.activity(tool.name, f"waiting for {', '.join(tool.needs)}", quiet=True):
            job = replace(job, needs={name: self._folder(name) for name in tool.needs})
        if building := [step for step in tool.steps if step.builds]:
            with self._turn(self._builds, tool, "building") as begun:
                for step in building:
                    step.build(job)
            spent += time.monotonic() - begun
        return "built", spent

    def _download(self, tool: Tool, folder: Path) -> float | None:
        """Get the official release; the seconds it took, None when there is none or its publisher cannot be reached."""
        checksum = self._publishers.checksum(tool.official) if tool.official else None
        if not tool.official or not checksum:
            return None
        with self._turn(self._network, tool, f"downloading {tool.official.url}") as begun:
            download(tool.official, checksum, folder, self._running.check)
        return time.monotonic() - begun

    def _job(self, tool: Tool, folder: Path) -> Job:
        log = log_file(tool.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        return Job(
            folder=folder,
            needs={},
            go=self._go() if tool.uses_go else Path("go"),
            processes=os.cpu_count() or 1,
            log=log,
            running=self._running,
        )

    @contextmanager
    def _turn(self, limit: threading.Semaphore, tool: Tool, text: str) -> Generator[float]:
        """Wait for a place, then be busy with `text`; gives the time at which it began."""
        with self._progress.activity(tool.name, "waiting for its turn", quiet=True):
            limit.acquire()
        try:
            with self._progress.activity(tool.name, text):
                yield time.monotonic()
        finally:
            limit.release()

    def _go(self) -> Path:
        there = self._need("go")
        return there.folder / "go/bin/go" if there.folder else there.programs["go"]

    def _folder(self, name: str) -> Path:
        folder = self._need(name).folder
        assert folder, f"{name} is an ingredient, so it is never taken from PATH"
        return folder

    def _need(self, name: str) -> Found:
        try:
            return self._futures[name].result()
        except (Exception, CancelledError) as error:
            raise NeedMissingError(f"not made: {name} is missing") from error

    def _tell_failure(self, tool: Tool, error: Exception) -> None:
        if self._running.stopped:
            return
        if isinstance(error, NeedMissingError):
            self._progress.say(tool.name, str(error))
            return
        log = log_file(tool.name)
        tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.exists() else []
        lines = "".join(f"\n    {line}" for line in [*tail, f"whole log: {log}"])
        self._progress.say(tool.name, f"FAILED: {error}{lines}")

    def _publish(self) -> None:
        """Bring `artifacts/` up to date and get the official provider plugins where they can be had."""
        done = {name: future.result() for name, future in self._futures.items() if not future.exception()}
        artifacts.publish(
            {name: artifacts.Finished(it.folder, it.receipt) for name, it in done.items() if it.folder and it.receipt}
        )
        pulumi = plugins.find_pulumi()
        for name in self._missing_plugins if pulumi else []:
            assert pulumi
            try:
                if plugins.install(name, pulumi, self._publishers):
                    self._progress.say(f"plugin {name}", f"{PLUGINS[name]} official")
            except ToolError as error:
                self._progress.say(f"plugin {name}", f"{error}; the stand-in serves")

    def _print_table(self) -> None:
        table = Table("tool", "version", "source", "seconds", title="Tools (seconds in brackets: made earlier)")
        for tool in self._tools:
            if self._futures[tool.name].exception():
                table.add_row(tool.name, tool.version, "[red]missing[/red]", "")
                continue
            there = self._futures[tool.name].result()
            seconds = f"({there.seconds:.0f})" if tool.name in self._there else f"{there.seconds:.0f}"
            table.add_row(tool.name, there.version, there.source, "" if there.source == "PATH" else seconds)
        for name, version in PLUGINS.items():
            table.add_row(f"plugin {name}", version, plugins.source(name), "")
        Console().print(table)


@contextmanager
def _terminate_as_interrupt() -> Generator[None]:
    """SIGTERM ends a run like Ctrl-C does: with the commands it started."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def install(names: Sequence[str], jobs: int, quiet: bool = False) -> int:
    """Get the named tools and what they need.

    Returns:
        The exit code, see Installer.run.
    """
    return Installer(with_needs(names), jobs, quiet).run()
