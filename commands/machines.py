"""A running environment and its machines: status, a shell, a snapshot, a VM that joins again, the kubeconfig."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from typing import Annotated

import typer

from commands.context import AsJson, StackName, alone, console, named, stack_with
from ops import machines, members, readings
from ops.errors import OpsError
from ops.files import lent_file, secret_file
from ops.status import view
from ops.status.look import look

Vm = Annotated[
    str | None, typer.Argument(envvar="VM", help="A machine by its name, with the stack's name in front or without.")
]


def status(stack: StackName = None, as_json: AsJson = False) -> int:
    """Show the environment as it is now; fails when not all is well."""
    opened, deployment, _ = stack_with(stack, "vms")
    found = look(opened, deployment)
    if as_json:
        print(view.as_json(found))
    else:
        view.show(found, datetime.now(UTC), console)
    return 0 if found.healthy else 1


def rejoin(vm: Vm = None, stack: StackName = None) -> int:
    """Let a VM join the mesh again, with a new token; its machine is started if it is stopped."""
    opened, deployment, outputs = stack_with(stack, "vms")
    name = named(opened, vm, outputs["vms"])
    document = members.recorded(deployment).get(name)
    if document is None:
        raise OpsError(f"{name} has not joined yet; `make up STACK={opened.name}` lets it")
    with alone(opened.name, "rejoin"):
        machines.see_that_it_runs(opened, deployment, name)
        console.print(f"{name} joins the mesh again", highlight=False)
        joined = members.join(opened, name, readings.renewed(deployment, document))
    entry = f"{joined['namespace']}/{joined['workload_entry']}"
    console.print(f"{name} is a healthy member of the mesh: WorkloadEntry {entry}", highlight=False)
    return 0


def snapshot(vm: Vm = None, stack: StackName = None) -> int:
    """Take a snapshot of a machine, or of each in turn (Multipass); one that runs is stopped for it and started again."""
    opened, deployment, _ = stack_with(stack, "machines")
    documents = {document["name"]: document for document in machines.made(deployment).values()}
    if not documents:
        raise OpsError(f"the machines of stack {opened.name} were not made here, so no snapshot can be taken of them")
    names = [named(opened, vm, documents)] if vm else list(documents)
    with alone(opened.name, "snapshot"):
        for name in names:
            taken = machines.snapshot(opened, documents[name])
            back = f"back to it, once {name} is stopped: {taken['restore']}"
            console.print(f"{taken['snapshot']}; {back}", highlight=False)
    console.print(
        f"`make up STACK={opened.name}` next: it waits until all is well, and follows new addresses", highlight=False
    )
    return 0


def kubeconfig(stack: StackName = None) -> int:
    """Write the kubeconfig, which nobody else can read, and print its path."""
    opened, _, outputs = stack_with(stack, "kubeconfig")
    print(secret_file(opened.folder / "kubeconfig", outputs["kubeconfig"]))
    return 0


def ssh(
    vm: Vm = None,
    command: Annotated[list[str] | None, typer.Argument(help="A command to run there instead of a shell.")] = None,
    stack: StackName = None,
) -> int:
    """Open a shell on a machine, or run one command there; its host key is pinned."""
    opened, _, outputs = stack_with(stack, "machines")
    name = named(opened, vm, outputs["machines"])
    machine = outputs["machines"][name]
    # All machines, each by its own name: several shells may be opened at once.
    keys = "".join(f"{one} {known['hostKey']}\n" for one, known in outputs["machines"].items())
    known = secret_file(opened.folder / "known_hosts", keys)
    options = [f"HostKeyAlias={name}", f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=/dev/null"]
    options += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "UpdateHostKeys=no", "LogLevel=ERROR"]
    # One that the sidecar cuts as it starts would otherwise hang for ever.
    options.append("ServerAliveInterval=5")
    # The user's own settings for all hosts, a jump host perhaps, are not meant for these machines.
    program = ["ssh", "-F", "none", "-p", str(machine["port"])]
    program += [word for option in options for word in ("-o", option)]
    words = [f"{machine['user']}@{machine['address']}", *(command or filter(None, [os.environ.get("ARGS")]))]
    with lent_file(opened.folder, "id_ed25519", outputs["sshPrivateKey"]) as key:
        return subprocess.run([*program, "-i", str(key), *words], check=False).returncode
