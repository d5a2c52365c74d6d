"""`python -m lab.tools doctor`: what is there, where it came from, and how to get what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.tools import artifacts, found, host, plugins
from lab.tools.cache import cache_root
from lab.tools.recipes import PLUGINS, TOOLS


def doctor() -> int:
    """Print the report.

    Returns:
        1 when something that is needed is missing, else 0.
    """
    console = Console()
    problems: list[str] = []
    console.print(_tools(problems), _plugins(problems), _host(problems))
    if artifact_problems := artifacts.problems():
        problems.append(f"{'; '.join(artifact_problems)}: run `make tools`")
    outdated = sorted(_outdated())
    if outdated:
        console.print(
            "Made by other recipes; remove them when no machine and no other checkout needs them:", soft_wrap=True
        )
        console.print(*(f"    {_short(path)}" for path in outdated), sep="\n", soft_wrap=True)
    for problem in problems:
        console.print(f"[red]missing:[/red] {problem}", soft_wrap=True)
    console.print("[red]not ready[/red]" if problems else "[green]ready[/green]")
    return 1 if problems else 0


def _tools(problems: list[str]) -> Table:
    table = Table("tool", "version", "source", title="Tools", title_justify="left")
    for tool in TOOLS:
        there = found.find(tool)
        if there:
            table.add_row(tool.name, there.version, there.source)
        elif tool.optional:
            table.add_row(tool.name, tool.version, "optional")
        elif tool.name != "go":  # only what is built with it needs it, and gets it
            table.add_row(tool.name, tool.version, "[red]missing[/red]")
            problems.append(f"{tool.name} {tool.version}: run `make tools`")
    return table


def _plugins(problems: list[str]) -> Table:
    table = Table("provider plugin", "version", "served by", title="Pulumi providers", title_justify="left")
    for name, version in PLUGINS.items():
        table.add_row(name, version, plugins.source(name))
        if plugins.source(name) == "missing":
            problems.append(f"the {name} provider: run `pulumi plugin install resource {name} {version}`")
    return table


def _host(problems: list[str]) -> Table:
    table = Table("host", "", "seen", title="This machine", title_justify="left")
    for check in host.checks():
        table.add_row(check.name, "[green]ok[/green]" if check.good else "[red]no[/red]", check.detail)
        if not check.good:
            problems.append(f"{check.name}: {check.detail}")
    return table


def _outdated() -> Iterator[Path]:
    current = {found.slot(tool).folder for tool in TOOLS}
    for folder in (cache_root() / "tools").glob("*/*"):
        if folder.is_dir() and folder not in current and not folder.name.startswith("."):
            yield folder


def _short(path: Path) -> str:
    """A path below the home folder as people write it."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
