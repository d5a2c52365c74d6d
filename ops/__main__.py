"""The commands behind `make`: up, down, preview, status, kubeconfig, ssh, env, run."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from ops import engine, state, summary, timeline, workspace
from ops.errors import Interrupted, OpsError
from ops.heal import heal
from ops.repair import remember, repair, sweep
from ops.workspace import Stack

console = Console(soft_wrap=True)


def up() -> int:
    """Bring the stack up, prove it, print the summary."""
    name = _choose(tell=True)
    workspace.get_tools(name, machines=True)
    started, clock = datetime.now(UTC), time.monotonic()
    stack = Stack.open(name)
    repaired = repair(stack)
    remember(stack)
    replace = [word for urn in repaired.replace for word in ("--replace", urn)]
    after = f"`make up STACK={stack.name}` goes on from here, `make down STACK={stack.name}` takes all of it down"
    engine.operate(stack, "up", "--yes", "--skip-preview", "--suppress-outputs", *replace, after=after)
    deployment = stack.deployment()
    outputs = state.outputs(deployment)
    live = summary.look(outputs)
    if repaired.started or not live.healthy:
        live = heal(stack, deployment, live, repaired.started)
    summary.show(stack.name, outputs, live, console)
    chain = timeline.longest_chain(state.resources(deployment), started)
    summary.show_chain(chain, time.monotonic() - clock, console)
    if not live.healthy:
        raise OpsError(f"not everything is healthy, see above; `make up STACK={stack.name}` again repairs what it can")
    return 0


def down() -> int:
    """Remove everything of the stack, its state included."""
    name = _choose(tell=True)
    stack = Stack(name, workspace.environment())
    if stack.exists():
        stack = Stack.find(name)
        repair(stack, machines=False)
        after = f"`make down STACK={name}` goes on from here"
        engine.operate(stack, "destroy", "--yes", "--skip-preview", "--suppress-outputs", after=after)
        sweep(stack)
        stack.pulumi("stack", "rm", name, "--yes", "--preserve-config")
    elif not stack.folder.exists():
        console.print(f"stack {name} is not up; there is nothing to take down", highlight=False)
        return 0
    workspace.forget(stack)
    console.print(f"stack {name} is gone; the tool cache stays", highlight=False)
    return 0


def preview() -> int:
    """Show what `up` would change."""
    name = _choose(tell=True)
    workspace.get_tools(name, machines=False)
    engine.operate(Stack.open(name), "preview")
    return 0


def status() -> int:
    """Show the environment as it is now."""
    stack, outputs = _outputs("vms")
    live = summary.look(outputs)
    summary.show(stack.name, outputs, live, console)
    return 0 if live.healthy else 1


def kubeconfig() -> int:
    """Write the kubeconfig and print its path."""
    stack, outputs = _outputs("kubeconfig")
    print(workspace.secret_file(stack.folder / "kubeconfig", outputs["kubeconfig"]))
    return 0


def ssh() -> int:
    """Open a shell on a machine, or run one command there."""
    stack, outputs = _outputs("machines")
    machines, wanted = outputs["machines"], os.environ.get("VM", "")
    machine = machines.get(wanted) or machines.get(f"{stack.name}-{wanted}")
    if machine is None:
        raise OpsError(f"VM={wanted or '(not given)'}: stack {stack.name} has {', '.join(machines)}")
    key = workspace.secret_file(stack.folder / "id_ed25519", outputs["sshPrivateKey"])
    known = workspace.secret_file(stack.folder / "known_hosts", f"machine {machine['hostKey']}\n")
    options = ["HostKeyAlias=machine", f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null"]
    options += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "UpdateHostKeys=no", "LogLevel=ERROR"]
    # The user's own settings for all hosts, a jump host perhaps, are not meant for these machines.
    command = ["ssh", "-F", "none", "-i", str(key), "-p", str(machine["port"])]
    command += [word for option in options for word in ("-o", option)]
    command.append(f"{machine['user']}@{machine['address']}")
    return subprocess.run([*command, *filter(None, [os.environ.get("ARGS")])], check=False).returncode


def env() -> int:
    """Print what to eval in a shell to run pulumi by hand."""
    for key, value in workspace.environment().items():
        if os.environ.get(key) != value:
            print(f"export {key}={shlex.quote(value)}")
    return 0


def _choose(*, tell: bool) -> str:
    name, why = workspace.choose_stack()
    if tell:
        plugins = "Pulumi's own" if workspace.official_plugins() else "the lab's stand-ins"
        console.print(f"stack {name} ({why}); providers: {plugins}", highlight=False)
    return name


def _outputs(needed: str) -> tuple[Stack, dict[str, Any]]:
    stack = Stack.find(_choose(tell=False))
    outputs = state.outputs(stack.deployment())
    if needed not in outputs:
        raise OpsError(f"stack {stack.name} is not up; `make up STACK={stack.name}` brings it up")
    return stack, outputs


VERBS = {f.__name__: f for f in (up, down, preview, status, kubeconfig, ssh, env)}


def main() -> int:
    """The command line: 0 when all is well, 130 when interrupted, else 1."""
    parser = argparse.ArgumentParser(prog="python -m ops", description=__doc__)
    commands = parser.add_subparsers(dest="verb", required=True)
    for name, verb in VERBS.items():
        commands.add_parser(name, help=(verb.__doc__ or "").strip())
    commands.add_parser("run", help="Run a command with Pulumi's environment.").add_argument("command", nargs="+")
    arguments = parser.parse_args()
    try:
        try:
            return workspace.run(arguments.command) if arguments.verb == "run" else VERBS[arguments.verb]()
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command goes on from here") from None
    except OpsError as error:
        errors = Console(stderr=True, soft_wrap=True)
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
