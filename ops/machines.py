"""The stack's machines as their driver knows them. The state knows what was made, not whether it still runs; asking the driver is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from actions.registry import ENSURE, LIST, SNAPSHOT, UPDATE
from ops import state, workspace
from ops.errors import OpsError
from ops.workspace import PROJECT, Stack

RUNNING, GONE, EXISTING = "running", "gone", "existing"


def made(deployment: state.Deployment) -> dict[str, dict[str, Any]]:
    """The machines that a driver of ours has made: each one's URN and what it was made from.

    Existing hosts are not among them: nobody here lists, starts or makes those.
    """
    documents = state.requests(deployment, ENSURE)
    return {urn: document for urn, document in documents if document["driver"] != "existing"}


def listed(stack: Stack, machines: Iterable[Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What the driver says of each machine by its name: `actions.machines.driver.MachineState`; nothing of one that it does not have.

    Besides the names of further ones that it has for the same owner.

    Raises:
        OpsError: the driver does not say.
    """
    wanted = list(machines)
    if not wanted:
        return {}, []
    asked = {key: wanted[0][key] for key in ("driver", "owner")}
    names = {machine["name"] for machine in wanted}
    found = {one["name"]: one for one in stack.act(LIST, asked)}
    return {name: one for name, one in found.items() if name in names}, [name for name in found if name not in names]


def orphans(stack: Stack, deployment: state.Deployment) -> list[dict[str, Any]]:
    """What the driver says of machines that are the stack's and that its state does not have: killed runs have begun them.

    Each has what its driver has to be asked with besides its name: `driver` and `owner`.

    Raises:
        OpsError: the driver does not say.
    """
    known = list(made(deployment).values())
    configured = workspace.driver_of(stack.name) or EXISTING
    drivers = {configured: f"{PROJECT}/{stack.name}", **{document["driver"]: document["owner"] for document in known}}
    names = {document["name"] for document in known}
    return [
        {**machine, "driver": driver, "owner": owner}
        for driver, owner in drivers.items()
        if driver != EXISTING
        for machine in stack.act(LIST, {"driver": driver, "owner": owner})
        if machine["name"] not in names
    ]


def states(stack: Stack, machines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The driver's word for each machine by its name, `running` for one that is; `gone` for one that it does not have.

    Raises:
        OpsError: the driver does not say.
    """
    wanted = list(machines)
    found, _ = listed(stack, wanted)
    return {name: found[name]["state"] if name in found else GONE for name in (machine["name"] for machine in wanted)}


def moved(deployment: state.Deployment, now: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The machines that are reached elsewhere than the state has it: each one's URN and what its command would print now.

    Args:
        deployment: the stack's state.
        now: what the driver says of machines, by name.
    """
    read = state.results(deployment, ENSURE)
    current = {urn: now.get(before["name"], {}) for urn, before in read.items()}
    return {
        urn: {**read[urn], **{key: found[key] for key in ("address", "port", "host_key") if found.get(key)}}
        for urn, found in current.items()
        if found.get("address") and found["address"] != read[urn]["address"]
    }


def start(stack: Stack, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Start a machine that is stopped; its disk is as it was. What it is then, its address perhaps another one.

    Raises:
        OpsError: it does not start.
    """
    try:
        return stack.act(UPDATE, machine)
    except OpsError as error:
        raise OpsError(f"machine {machine['name']} could not be started: {error}") from None


def see_that_it_runs(stack: Stack, deployment: state.Deployment, name: str) -> None:
    """Start a machine of ours that is stopped.

    Raises:
        OpsError: it is gone, does not start, or is reached elsewhere since.
    """
    wanted = [machine for machine in made(deployment).values() if machine["name"] == name]
    for machine in wanted:
        word = states(stack, wanted)[name]
        if word == GONE:
            raise OpsError(f"machine {name} is gone; `make up STACK={stack.name}` makes it anew")
        if word != RUNNING:
            print(f"machine {name} is {word}; starting it", flush=True)
            if moved(deployment, {name: start(stack, machine)}):
                raise OpsError(f"machine {name} has another address now; `make up STACK={stack.name}` follows it")


def snapshot(stack: Stack, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Take a snapshot of a machine: `actions.machines.driver.Snapshot`. It may have another address afterwards.

    Raises:
        OpsError: its driver has no snapshots, or it could not be taken.
    """
    return stack.act(SNAPSHOT, machine, tell=lambda line: print(f"  {line}", flush=True))
