"""`make verify ARGS=…`: the command line of the checks."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape

from actions.protocol import Failure
from actions.ssh import SshError
from ops import state
from ops.errors import Interrupted, OpsError
from ops.status.look import look
from ops.workspace import Stack, choose_stack
from verify import draining
from verify.checks import CHECKS, Check
from verify.environment import Environment
from verify.finding import Finding, Verdict, not_asked
from verify.report import Result, as_document, show

LOG_COLUMNS = 160
"""The table's width where it does not go to a terminal."""

errors = Console(stderr=True, soft_wrap=True)


def main() -> int:
    """0 when every promise holds, 1 when one does not, 2 for wrong arguments, 130 when interrupted."""
    arguments = _parse()
    if arguments.list:
        for check in CHECKS:
            print(f"{check.name:15}{check.title}{f' (disturbs {check.disturbs})' if check.disturbs else ''}")
        return 0
    try:
        try:
            results = _verify(arguments.checks)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; what a check had stopped was started again") from None
    except (OpsError, Failure) as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        return error.code if isinstance(error, OpsError) else 1
    stack = choose_stack()[0]
    if arguments.json:
        json.dump(as_document(stack, results), sys.stdout, indent=2)
        print()
    else:
        show(stack, results, Console(width=None if sys.stdout.isatty() else LOG_COLUMNS))
    return 0 if all(result.passed for result in results) else 1


def _parse() -> argparse.Namespace:
    known = {check.name: check for check in CHECKS}
    parser = argparse.ArgumentParser(
        prog="make verify ARGS=…", description="Show every promise of the mesh with real traffic."
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--list", action="store_true", help="list the checks and what they disturb; run none")
    parser.add_argument("--calm", action="store_true", help="only checks that disturb nothing")
    parser.add_argument("--only", metavar="NAME[,NAME…]", type=lambda text: text.split(","), help="only these checks")
    try:
        words = sys.argv[1:] or shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        parser.error(f"ARGS: {error}")
    arguments = parser.parse_args(words)
    wrong = [name for name in arguments.only or () if name not in known]
    if wrong:
        parser.error(f"--only: no such check: {', '.join(wrong)}; there are {', '.join(known)}")
    arguments.checks = [
        check
        for name, check in known.items()
        if (not arguments.only or name in arguments.only) and not (arguments.calm and check.disturbs)
    ]
    if arguments.only and not arguments.checks:
        parser.error(f"--calm leaves nothing of --only {','.join(arguments.only)}")
    return arguments


def _verify(checks: Sequence[Check]) -> list[Result]:
    stack = Stack.find(choose_stack()[0])
    deployment = stack.deployment()
    outputs = state.outputs(deployment)
    if "vms" not in outputs:
        raise OpsError(f"stack {stack.name} is not up; `make up STACK={stack.name}` brings it up")
    history = json.loads(stack.pulumi("stack", "history", "--stack", stack.name, "--json", "--page-size", "5"))
    if seconds := draining.left(history, datetime.now(UTC)):
        errors.print(
            f"waiting {seconds:.0f} s: until then Envoy may cut connections that the last `make up` has outdated"
        )
        time.sleep(seconds)
    with Environment.of(stack.name, outputs, lambda: look(stack, deployment)) as env:
        return [_run(check, env) for check in checks]


def _run(check: Check, env: Environment) -> Result:
    """Run one check, telling of it as it ends; what goes wrong on the way is a finding."""
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
    errors.print(f"{check.name:15}{mark}  {result.seconds:5.1f} s  {escape(check.title)}", highlight=False)
    return result


if __name__ == "__main__":
    sys.exit(main())
