"""The commands behind `make`: everything around a stack, and the documents of its settings."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from actions.protocol import Failure
from components.settings import DriverName
from components.settings.document import GENERATED
from ops import diff_stacks as differences
from ops import (
    engine,
    lock,
    machines,
    members,
    policies,
    protection,
    readings,
    state,
    summary,
    timeline,
    versions,
    workspace,
)
from ops import new_stack as stacks
from ops.errors import Interrupted, OperationFailed, OpsError
from ops.event_log import EventLog
from ops.files import lent_file, secret_file
from ops.finding import count
from ops.finish import finish
from ops.heal import Healed, heal
from ops.proof import RESOURCE as PROOF
from ops.repair import Repaired, clear_up, remember, repair, repair_cluster, sweep
from ops.status import view
from ops.status.look import look
from ops.workspace import Stack

console = Console(soft_wrap=True, emoji=False)


def up() -> int:
    """Bring the stack up, prove it, print the summary."""
    name = _choose(tell=True)
    file = workspace.read_stack_file(name)
    # The lab's files are made by its tools; no mistake is worth waiting for these.
    file.check(files=file.driver != DriverName.NSPAWN)
    workspace.get_tools(name, machines=True)
    file.check(files=True)
    started, clock = datetime.now(UTC), time.monotonic()
    with _alone(name, "up"):
        return _up(Stack.open(name), started, clock)


def _up(stack: Stack, started: datetime, clock: float) -> int:
    versions.refuse_step(stack)
    repaired = repair(stack)
    remember(stack)
    policies.before_up(stack)
    deployment, healed = _apply(stack, repaired)
    if not repaired.compared:
        late = repair_cluster(stack, deployment, Repaired())
        if late.replace or late.again:
            deployment, again = _apply(stack, late)
            healed = replace(again, at=again.at or healed.at)
    clear_up(stack, deployment, repaired)
    ended = finish(stack, deployment, healed, started)
    summary.show(state.outputs(deployment), ended.status, ended.proof, ended.findings, console)
    chain = timeline.longest_chain(state.resources(deployment), started)
    summary.show_chain(chain, time.monotonic() - clock, console)
    if ended.findings:
        raise OpsError(f"not all is well with stack {stack.name}: {count(ended.findings)}, see above")
    return 0


def _apply(stack: Stack, repaired: Repaired) -> tuple[state.Deployment, Healed]:
    """Make the world what the program says, and heal what is not well nevertheless: the state afterwards, and what healing came to."""
    again = [word for urn in repaired.replace for word in ("--replace", urn)]
    after = f"`make up STACK={stack.name}` goes on from here, `make down STACK={stack.name}` takes all of it down"
    words = ["--yes", "--skip-preview", "--suppress-outputs", *policies.flags(stack)]
    try:
        engine.operate(stack, "up", *words, *again, after=after)
    except OperationFailed as error:
        # Calls go unanswered as well where somebody has harmed a member that the change has nothing to do with.
        if list(error.failed) != [PROOF] or not _heals(stack, repaired.suspects):
            raise
        engine.operate(stack, "up", *words, after=after)
    deployment = stack.deployment()
    return deployment, heal(stack, deployment, repaired.suspects)


def _heals(stack: Stack, suspects: Collection[str]) -> bool:
    """Whether something was not well that has been put right."""
    deployment = stack.deployment()
    if "vms" not in state.outputs(deployment):
        return False
    healed = heal(stack, deployment, suspects)
    return bool(healed.at) and not healed.failed and not healed.in_vain


def down() -> int:
    """Remove everything of the stack, its state included."""
    name = _choose(tell=True)
    stack = Stack(name, workspace.environment())
    if not stack.folder.exists() and not stack.exists():
        console.print(f"stack {name} is not up; there is nothing to take down", highlight=False)
        return 0
    with _alone(name, "down"):
        return _down(stack)


def _down(stack: Stack) -> int:
    name = stack.name
    if stack.exists():
        stack = Stack.find(name)
        protection.refuse_to_destroy(stack, stack.deployment())
        repair(stack, to_destroy=True)
        after = f"`make down STACK={name}` goes on from here"
        # By the state alone: the settings may be in need of repair.
        words = ("--yes", "--skip-preview", "--suppress-outputs", "--skip-config-validation")
        engine.operate(stack, "destroy", *words, after=after)
        sweep(stack)
        stack.pulumi("stack", "rm", name, "--yes", "--preserve-config")
    workspace.forget(stack)
    console.print(f"stack {name} is gone; the tool cache stays", highlight=False)
    return 0


def preview() -> int:
    """Show what `up` would change."""
    name = _choose(tell=True)
    workspace.read_stack_file(name).check()
    workspace.get_tools(name, machines=False)
    stack = Stack.open(name)
    versions.refuse_step(stack)
    with EventLog() as log:
        engine.operate(stack, "preview", *policies.flags(stack), log=log)
        policies.after_preview(stack, log)
    return 0


def policy() -> int:
    """Judge what `up` would make of the stack by its policies."""
    name = _choose(tell=True)
    workspace.read_stack_file(name).check()
    workspace.get_tools(name, machines=False)
    stack = Stack.open(name)
    policies.tell(stack, policies.judged_preview(stack))
    return 0


def status() -> int:
    """Show the environment as it is now; 0 when all is well."""
    arguments = _arguments("status", json="print JSON instead of tables")
    stack, deployment, _ = _stack_with("vms")
    found = look(stack, deployment)
    if arguments.json:
        print(view.as_json(found))
    else:
        view.show(found, datetime.now(UTC), console)
    return 0 if found.healthy else 1


def rejoin() -> int:
    """Let a VM join the mesh again; its machine is started if it is stopped."""
    stack, deployment, outputs = _stack_with("vms")
    name = _named(stack, outputs["vms"])
    document = members.recorded(deployment).get(name)
    if document is None:
        raise OpsError(f"{name} has not joined yet; `make up STACK={stack.name}` lets it")
    with _alone(stack.name, "rejoin"):
        machines.see_that_it_runs(stack, deployment, name)
        console.print(f"{name} joins the mesh again", highlight=False)
        joined = members.join(stack, name, readings.renewed(deployment, document))
    entry = f"{joined['namespace']}/{joined['workload_entry']}"
    console.print(f"{name} is a healthy member of the mesh: WorkloadEntry {entry}", highlight=False)
    return 0


def snapshot() -> int:
    """Take a snapshot of each machine in turn, or of `VM`; one that runs is stopped for it and started again."""
    stack, deployment, _ = _stack_with("machines")
    documents = {document["name"]: document for document in machines.made(deployment).values()}
    if not documents:
        raise OpsError(f"the machines of stack {stack.name} were not made here, so no snapshot can be taken of them")
    names = [_named(stack, documents)] if os.environ.get("VM") else list(documents)
    with _alone(stack.name, "snapshot"):
        for name in names:
            taken = machines.snapshot(stack, documents[name])
            back = f"back to it, once {name} is stopped: {taken['restore']}"
            console.print(f"{taken['snapshot']}; {back}", highlight=False)
    console.print(
        f"`make up STACK={stack.name}` next: it waits until all is well, and follows new addresses", highlight=False
    )
    return 0


def kubeconfig() -> int:
    """Write the kubeconfig and print its path."""
    stack, _, outputs = _stack_with("kubeconfig")
    print(secret_file(stack.folder / "kubeconfig", outputs["kubeconfig"]))
    return 0


def ssh() -> int:
    """Open a shell on a machine, or run one command there."""
    stack, _, outputs = _stack_with("machines")
    name = _named(stack, outputs["machines"])
    machine = outputs["machines"][name]
    # All machines, each by its own name: several shells may be opened at once.
    keys = "".join(f"{one} {known['hostKey']}\n" for one, known in outputs["machines"].items())
    known = secret_file(stack.folder / "known_hosts", keys)
    options = [f"HostKeyAlias={name}", f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null"]
    options += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "UpdateHostKeys=no", "LogLevel=ERROR"]
    # One that the sidecar cuts as it starts would otherwise hang for ever.
    options.append("ServerAliveInterval=5")
    # The user's own settings for all hosts, a jump host perhaps, are not meant for these machines.
    command = ["ssh", "-F", "none", "-p", str(machine["port"])]
    command += [word for option in options for word in ("-o", option)]
    words = [f"{machine['user']}@{machine['address']}", *filter(None, [os.environ.get("ARGS")])]
    with lent_file(stack.folder, "id_ed25519", outputs["sshPrivateKey"]) as key:
        return subprocess.run([*command, "-i", str(key), *words], check=False).returncode


def env() -> int:
    """Print what to eval in a shell to run pulumi by hand."""
    for key, value in workspace.environment().items():
        if os.environ.get(key) != value:
            print(f"export {key}={shlex.quote(value)}")
    for key in os.environ.keys() - workspace.environment().keys():
        print(f"unset {key}")
    return 0


def _choose(*, tell: bool) -> str:
    name, why = workspace.choose_stack()
    if tell:
        plugins = "Pulumi's own" if workspace.official_plugins() else "the lab's stand-ins"
        console.print(f"stack {name} ({why}); providers: {plugins}", highlight=False)
    return name


def _alone(stack: str, verb: str) -> AbstractContextManager[None]:
    """No other command changes the stack meanwhile."""
    return lock.alone(workspace.folder_of(stack), stack, verb)


def _stack_with(needed: str) -> tuple[Stack, state.Deployment, dict[str, Any]]:
    """The stack, its state and its outputs, of which one is needed."""
    stack = Stack.find(_choose(tell=False))
    deployment = stack.deployment()
    outputs = state.outputs(deployment)
    if needed not in outputs:
        raise OpsError(f"stack {stack.name} is not up; `make up STACK={stack.name}` brings it up")
    return stack, deployment, outputs


def _named(stack: Stack, known: Iterable[str]) -> str:
    """The machine that `VM` names, with the stack's name in front or without."""
    wanted, names = os.environ.get("VM", ""), list(known)
    for name in (wanted, f"{stack.name}-{wanted}"):
        if name in names:
            return name
    raise OpsError(f"VM={wanted or '(not given)'}: stack {stack.name} has {', '.join(names)}")


def _arguments(verb: str, **flags: str) -> argparse.Namespace:
    """The flags in `ARGS`, which no shell has touched; with what each is for."""
    parser = argparse.ArgumentParser(prog=f"make {verb} ARGS=…", description=VERBS[verb].__doc__)
    for name, meaning in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    try:
        return parser.parse_args(shlex.split(os.environ.get("ARGS", "")))
    except ValueError as error:
        raise OpsError(f"ARGS cannot be read: {error}") from None


def new_stack() -> int:
    """Write the stack file of a new stack, NAME, from that of another, FROM."""
    for line in stacks.write(os.environ.get("NAME", ""), os.environ.get("FROM") or "dev"):
        console.print(line, highlight=False)
    return 0


def diff_stacks() -> int:
    """Show what differs between the settings of stacks A and B; 0 whether anything does or not."""
    arguments = _arguments("diff-stacks", json="print JSON instead of a table")
    a, b = os.environ.get("A", ""), os.environ.get("B", "")
    found = differences.compare(a, b)
    if arguments.json:
        print(differences.as_json(found, a, b))
    else:
        differences.show(found, a, b, console)
    return 0


def docs() -> int:
    """Write what docs/settings.md and Pulumi.yaml say of settings, from their models."""
    for name, generate in GENERATED.items():
        file = workspace.ROOT / name
        file.write_text(generate(file.read_text()))
        console.print(f"wrote {name}", highlight=False)
    return 0


_FUNCTIONS = (up, down, preview, policy, new_stack, diff_stacks, status, rejoin, snapshot, kubeconfig, ssh, env, docs)
VERBS = {f.__name__.replace("_", "-"): f for f in _FUNCTIONS}


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
    except (OpsError, Failure) as error:
        errors = Console(stderr=True, soft_wrap=True, emoji=False)
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        return error.code if isinstance(error, OpsError) else 1


if __name__ == "__main__":
    sys.exit(main())
