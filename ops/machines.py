"""The stack's machines as their driver knows them. The state knows what was made, not whether it still runs; asking the driver is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ops import state
from ops.errors import OpsError
from ops.workspace import Stack

RUNNING, GONE, EXISTING = "running", "gone", "existing"


def made(deployment: state.Deployment) -> dict[str, dict[str, Any]]:
    """The machines that a driver of ours has made: each one's URN and what it was made from.

    Existing hosts are not among them: nobody here lists, starts or makes those.
    """
    documents = state.documents(deployment, "components.machines", "ensure")
    return {urn: document for urn, document in documents if document["driver"] != "existing"}


def states(stack: Stack, machines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The driver's word for each machine by its name, `running` for one that is; `gone` for one that it does not have.

    Raises:
        OpsError: the driver does not say.
    """
    wanted = list(machines)
    if not wanted:
        return {}
    asked = {key: wanted[0][key] for key in ("driver", "owner")}
    listed = {one["name"]: one["state"] for one in stack.module("components.machines", "list", asked)}
    return {machine["name"]: listed.get(machine["name"], GONE) for machine in wanted}


def start(stack: Stack, machine: Mapping[str, Any]) -> None:
    """Start a machine that is stopped; its disk is as it was.

    Raises:
        OpsError: it does not start.
    """
    try:
        stack.module("components.machines", "update", machine)
    except OpsError as error:
        raise OpsError(f"machine {machine['name']} could not be started: {error}") from None


def see_that_it_runs(stack: Stack, deployment: state.Deployment, name: str) -> None:
    """Start a machine of ours that is stopped.

    Raises:
        OpsError: it is gone, or does not start.
    """
    wanted = [machine for machine in made(deployment).values() if machine["name"] == name]
    for machine in wanted:
        word = states(stack, wanted)[name]
        if word == GONE:
            raise OpsError(f"machine {name} is gone; `make up STACK={stack.name}` makes it anew")
        if word != RUNNING:
            print(f"machine {name} is {word}; starting it", flush=True)
            start(stack, machine)
