"""Shows a status: tables for people, made for 80 columns and more, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ops import finding
from ops.status.model import Gateway, Istiod, Machine, Member, Node, NotKnown, Status, Workload

UNKNOWN = "[yellow]not known[/]"
_INDENT = (0, 0, 0, 2)

Row = TypeVar("Row", Machine, Node, Istiod, Gateway, Workload, Member)


def as_json(status: Status) -> str:
    """The status as one JSON document, its fields those of `ops.status.model`; what is not known is `{"not_known": "why"}`."""
    document = {"healthy": status.healthy, **asdict(status)}
    return json.dumps(document, indent=2, default=datetime.isoformat)


def show(status: Status, now: datetime, console: Console) -> None:
    """The status as tables.

    Args:
        status: the stack.
        now: what times are told from.
        console: where to.
    """
    well = "[green]all is well[/]" if status.healthy else f"[red]{finding.count(status.findings)}, see below[/]"
    console.print(f"\n[bold]stack {status.stack}:[/] {well}", highlight=False)
    _table(console, "machine", ("address", "state"), status.machines, _machine)
    _table(console, "node", ("state", "version"), status.nodes, _node)
    _table(console, "istiod", ("pods ready", "version", "tags"), status.istiods, _istiod)
    _table(console, "gateway", ("addresses", "ports"), status.gateways, _gateway)
    _table(console, "workload", ("Services", "healthy VMs"), status.workloads, _workload)
    _table(console, "VM", ("workload", "health", "certificate", "proxy"), status.members, lambda row: _member(row, now))
    if status.findings:
        console.print()
        finding.show(status.findings, console)


def _table(
    console: Console,
    what: str,
    columns: Sequence[str],
    rows: Sequence[Row] | NotKnown,
    cells: Callable[[Row], Sequence[str]],
) -> None:
    """One part: a heading, and a line for each."""
    console.print()
    if isinstance(rows, NotKnown):
        console.print(f"  [dim]{what}[/]  {UNKNOWN}", highlight=False)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in (what, *columns):
        table.add_column(name, overflow="fold")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*cells(row))
    console.print(Padding(table, _INDENT, expand=False))


def _machine(row: Machine) -> Sequence[str]:
    state = UNKNOWN if isinstance(row.state, NotKnown) else _mark(row.well, row.state)
    return row.name, row.address, state


def _node(row: Node) -> Sequence[str]:
    state = row.problem or ("Ready" if row.ours else "not the stack's")
    return row.name, _mark(row.well, state), row.version


def _istiod(row: Istiod) -> Sequence[str]:
    return row.revision, _mark(row.well, f"{row.ready}/{row.wanted}"), row.version, ", ".join(row.tags)


def _gateway(row: Gateway) -> Sequence[str]:
    addresses = "\n".join(row.addresses) or "none"
    ports = ", ".join(f"{name} {port}" for name, port in row.ports.items())
    return row.name, addresses if row.well else f"[red]{addresses}[/]", ports


def _workload(row: Workload) -> Sequence[str]:
    count = f"{row.healthy}/{row.members}" if row.registered else "its WorkloadGroup is gone"
    return f"{row.namespace}/{row.name}", ", ".join(row.services), _mark(row.well, count)


def _member(row: Member, now: datetime) -> Sequence[str]:
    return row.name, row.workload, _health(row), _certificate(row.certificate_ends, now), _sync(row.sync)


def _health(row: Member) -> str:
    if isinstance(row.problem, NotKnown):
        return UNKNOWN
    return _mark(row.well, "healthy" if row.well else f"not healthy: {row.problem}")


def _certificate(ends: datetime | NotKnown | None, now: datetime) -> str:
    if isinstance(ends, NotKnown):
        return UNKNOWN
    if ends is None:
        return "[red]none[/]"
    return f"ends in {_span(ends - now)}" if ends > now else f"[red]ended {_span(now - ends)} ago[/]"


def _span(span: timedelta) -> str:
    """A time span in its largest unit, such as `23 h`."""
    seconds = int(span.total_seconds())
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((one for one in units if seconds >= 2 * one[0]), units[-1])
    return f"{seconds // size} {unit}"


def _sync(sync: Mapping[str, str] | NotKnown) -> str:
    """All that was sent is in step; or what is not."""
    if isinstance(sync, NotKnown):
        return UNKNOWN
    if not sync:
        return "[red]not connected[/]"
    stale = [name for name, state in sync.items() if state == "STALE"]
    if stale:
        return f"[red]STALE: {', '.join(stale)}[/]"
    return "SYNCED" if "SYNCED" in sync.values() else "NOT SENT"


def _mark(well: bool, text: str) -> str:
    return f"[green]{escape(text)}[/]" if well else f"[red]{escape(text)}[/]"
