"""The report of a run: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from verify.checks import Check
from verify.finding import Finding, Verdict

_STYLES = {Verdict.HOLDS: "green", Verdict.FAILS: "bold red", Verdict.NOT_ASKED: "dim"}


@dataclass(frozen=True)
class Result:
    """A check that was run. `findings` has at least one."""

    check: Check
    findings: Sequence[Finding]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(finding.verdict is not Verdict.FAILS for finding in self.findings)


def as_document(stack: str, results: Sequence[Result]) -> dict[str, Any]:
    """What `--json` prints: `{"stack", "passed", "seconds", "checks": [{"name", "title", "passed", "seconds", "findings"}]}`.

    A finding is `{"what", "how", "evidence", "verdict"}`, the verdict one of `holds`, `FAILS` and `not asked for`.
    """
    return {
        "stack": stack,
        "passed": all(result.passed for result in results),
        "seconds": round(sum(result.seconds for result in results), 1),
        "checks": [
            {
                "name": result.check.name,
                "title": result.check.title,
                "passed": result.passed,
                "seconds": round(result.seconds, 1),
                "findings": [
                    {"what": f.what, "how": f.how, "evidence": f.evidence, "verdict": f.verdict.value}
                    for f in result.findings
                ],
            }
            for result in results
        ],
    }


def show(stack: str, results: Sequence[Result], console: Console) -> None:
    """The table, and one line that sums it up."""
    table = Table(title=f"stack {stack}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, ratio in (("promise", 4), ("how it was looked at", 4), ("evidence", 5)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    table.add_column("verdict", min_width=7)
    for result in results:
        table.add_section()
        table.add_row(
            Text(f"{result.check.name}: {result.check.title}", style="bold"), "", f"{result.seconds:.1f} s", ""
        )
        for f in result.findings:
            verdict = Text(f.verdict.value, style=_STYLES[f.verdict])
            table.add_row(Text(f.what), Text(f.how), Text(f.evidence), verdict)
    console.print(table)
    failed = [result.check.name for result in results if not result.passed]
    count = sum(len(result.findings) for result in results)
    seconds = sum(result.seconds for result in results)
    summed = f"{count} findings of {len(results)} checks in {seconds:.0f} s: "
    console.print(summed + (f"failed: {', '.join(failed)}" if failed else "all promises hold"), highlight=False)
