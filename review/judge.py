"""All policies over what an update would do: `pulumi preview --json --show-sames | python -m review.judge`.

A preview's JSON has the resources that are to be, what would be deleted or replaced, and which values are marked as
secrets. See docs/policies.md.

Exits 0 when no mandatory policy is violated, 1 when one is, 2 when the input is no whole preview.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actions.protocol import Failure
from review.model import Change, Found, Options, Resource, Rule, Violation
from review.preview import Preview, read
from review.rules import RULES
from review.rules.levels import Levels

LOG_COLUMNS = 200
"""The width of a table where there is no terminal: a line each."""


@dataclass(frozen=True)
class Judged:
    """What the policies have against a stack as an update would make it, and how many resources that has."""

    found: Found
    resources: int

    @property
    def stops(self) -> int:
        """How many violations are of mandatory policies."""
        return sum(level == "mandatory" for level, _, _ in self.found)

    def show(self, stack: str) -> None:
        """Print a table of the violations, if there are any, and a line that counts them."""
        console = Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)
        if self.found:
            table = Table("level", "policy", "resource", "violation", box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for level, rule, violation in self.found:
                style = "bold red" if level == "mandatory" else "yellow"
                name = violation.urn.rpartition("::")[2] or "the stack"
                table.add_row(Text(level, style), rule.name, Text(name), Text(violation.message))
            console.print(table)
        console.print(
            f"stack {stack}: violations: {self.stops} mandatory, {len(self.found) - self.stops} advisory "
            f"({len(RULES)} policies, {self.resources} resources)",
            highlight=False,
        )


def judge(preview: Preview, levels: Levels) -> Judged:
    """Every violation in a preview that has all resources.

    Raises:
        Failure: it has not.
    """
    resources = preview.resources()
    changes = [Change(step.op, step.urn) for step in preview.steps]
    return Judged(worst_first(violations(changes, levels, resources)), len(resources))


def violations(changes: Sequence[Change], levels: Levels, resources: Sequence[Resource] | None = None) -> Found:
    """The violations in what an update would do; and in the resources, which a pack in the engine sees by itself."""
    return [
        (level, rule, violation)
        for rule in RULES
        if (level := levels.level(rule)) != "disabled"
        for violation in _violations(rule, levels.options(rule), changes, resources)
    ]


def worst_first(found: Found) -> Found:
    """The violations, those of mandatory policies first."""
    return sorted(found, key=lambda entry: entry[0] != "mandatory")


def _violations(
    rule: Rule, options: Options, changes: Sequence[Change], resources: Sequence[Resource] | None
) -> Iterator[Violation]:
    if rule.resource:
        for resource in resources or ():
            yield from (Violation(message, resource.urn) for message in rule.resource(resource, options))
    if rule.stack and resources is not None:
        yield from rule.stack(resources, options)
    if rule.changes:
        yield from rule.changes(changes, options)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m review.judge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="levels and options, as for `pulumi --policy-pack-config`; otherwise the stack's own",
    )
    arguments = parser.parse_args()
    try:
        preview = read(sys.stdin.buffer.read())
        levels = Levels.read(arguments.config) if arguments.config else Levels.of_stack(preview.stack)
        judged = judge(preview, levels)
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    judged.show(preview.stack)
    return int(judged.stops > 0)


if __name__ == "__main__":
    sys.exit(main())
