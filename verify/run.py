"""One check, run to its end whatever happens in it."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape

from actions.protocol import Failure
from actions.ssh import SshError
from verify.checks import Check
from verify.environment import Environment
from verify.finding import Finding, Verdict, not_asked
from verify.report import Result


def run(check: Check, env: Environment, console: Console) -> Result:
    """Run it, and tell of it as it ends; what goes wrong on the way is a finding."""
    started = time.monotonic()
    findings: list[Finding] = []
    try:
        findings.extend(check.run(env))
    except (Failure, SshError) as error:
        findings.append(Finding(check.title, "the check could not be carried through", str(error), Verdict.FAILS))
    if not findings:
        findings.append(not_asked(check.title, "a VM with the sample application (workloads[].application)"))
    result = Result(check, findings, time.monotonic() - started)
    mark = "[green]holds[/]" if result.passed else "[red]FAILS[/]"
    console.print(f"{check.name:15}{mark}  {result.seconds:5.1f} s  {escape(check.title)}", highlight=False)
    return result
