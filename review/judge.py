"""All policies over what an update would do: `pulumi preview --json --show-sames | python -m review.judge`.

A preview's JSON has the resources that are to be, what would be deleted or replaced, and which values are marked as secrets. See
docs/policies.md.

Exits 0 when no mandatory policy is violated, 1 when one is, 2 when the input is no whole preview.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from review.preview import VERSION, Op
from review.rules import RULES
from review.rules.levels import Levels, LevelsError
from review.rules.model import Change, Found, Resource, Rule, Violation, mapping, sequence

LOG_COLUMNS = 200
"""How wide a table is where no terminal says how wide it is."""
_UNKNOWN = f"this is not the JSON of a preview as Pulumi {VERSION} prints it, the version that is pinned"
_GOING = ("delete", "delete-replaced")


class PreviewError(Exception):
    """The document is no whole preview."""


@dataclass(frozen=True)
class Preview:
    """What an update would do."""

    stack: str
    changes: tuple[Change, ...]

    @classmethod
    def parse(cls, text: str) -> Preview:
        """Read what `pulumi preview --json --show-sames` prints.

        Raises:
            PreviewError: it is something else, the preview failed, or resources that stay the same were left out.
        """
        try:
            document = mapping(json.loads(text))
        except ValueError as error:
            raise PreviewError(f"{_UNKNOWN}: {error}") from None
        failed = [str(entry["message"]).strip() for entry in _diagnostics(document, "error")]
        if failed:
            raise PreviewError("the preview failed: " + "; ".join(failed))
        try:
            changes = tuple(_change(mapping(step)) for step in sequence(document.get("steps")))
        except KeyError as error:
            raise PreviewError(f"{_UNKNOWN}: a step has no {error}") from None
        if not changes:
            raise PreviewError(f"{_UNKNOWN}: it has no steps")
        same = sum(change.op == "same" for change in changes)
        if same < mapping(document.get("changeSummary")).get("same", 0):
            raise PreviewError("resources that stay the same are missing: preview with --show-sames")
        return cls(changes[0].resource.urn.split(":")[2], changes)

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The resources that are to be, each once."""
        return tuple({c.resource.urn: c.resource for c in self.changes if c.op not in _GOING}.values())


def _diagnostics(document: Mapping[str, Any], severity: str) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in sequence(document.get("diagnostics")) if mapping(entry).get("severity") == severity)


def _change(step: Mapping[str, Any]) -> Change:
    if step["op"] not in get_args(Op):
        raise PreviewError(f"{_UNKNOWN}: {step['op']!r} is no operation")
    state = mapping(step.get("newState") or step.get("oldState"))
    return Change(step["op"], Resource(step["urn"], mapping(state.get("inputs")), secrets_hidden=True))


def violations(rule: Rule, preview: Preview, levels: Levels) -> Iterable[Violation]:
    """What the policy has against the preview."""
    options = levels.options(rule)
    if rule.resource:
        for resource in preview.resources:
            yield from (Violation(message, resource.urn) for message in rule.resource(resource, options))
    if rule.stack:
        yield from rule.stack(preview.resources, options)
    if rule.changes:
        yield from rule.changes(preview.changes, options)


def judge(preview: Preview, levels: Levels) -> Found:
    """Every violation with its level, the mandatory ones first."""
    found = [
        (levels.level(rule), rule, violation)
        for rule in RULES
        if levels.level(rule) != "disabled"
        for violation in violations(rule, preview, levels)
    ]
    return sorted(found, key=lambda entry: entry[0] != "mandatory")


def show(found: Found, stack: str, resources: int, console: Console) -> None:
    """Print a table of the violations, if there are any, and a line that counts them."""
    if found:
        table = Table("level", "policy", "resource", "violation", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for level, rule, violation in found:
            style = "bold red" if level == "mandatory" else "yellow"
            name = violation.urn.rpartition("::")[2] or "the stack"
            table.add_row(Text(level, style), rule.name, Text(name), Text(violation.message))
        console.print(table)
    mandatory = sum(level == "mandatory" for level, _, _ in found)
    console.print(
        f"stack {stack}: violations: {mandatory} mandatory, {len(found) - mandatory} advisory "
        f"({len(RULES)} policies, {resources} resources)",
        highlight=False,
    )


def wide() -> Console:
    """A console for the table: as wide as the terminal, and wide enough for a line each where there is none."""
    return Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m review.judge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="levels and options, as for `pulumi --policy-pack-config`; otherwise review/levels/<stack>.json, if there is one",
    )
    arguments = parser.parse_args()
    try:
        preview = Preview.parse(sys.stdin.read())
        levels = Levels.read(arguments.config) if arguments.config else Levels.of_stack(preview.stack)
    except (PreviewError, LevelsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = judge(preview, levels)
    show(found, preview.stack, len(preview.resources), wide())
    return int(any(level == "mandatory" for level, _, _ in found))


if __name__ == "__main__":
    sys.exit(main())
