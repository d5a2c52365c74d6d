"""What the stack's settings protect: said before anything is done that Pulumi would refuse in the middle.

Pulumi itself keeps a protected resource from being deleted or replaced, but `destroy` says so only once it has deleted others.
"""

from __future__ import annotations

from collections.abc import Collection

from ops import state
from ops.errors import OpsError
from ops.workspace import PROJECT, Stack


def protected(deployment: state.Deployment) -> list[str]:
    """The URNs of what must not be deleted or replaced; components, which are nothing by themselves, are left out."""
    return [r["urn"] for r in state.resources(deployment) if r.get("protect") and r.get("custom")]


def refuse_to_destroy(stack: Stack, deployment: state.Deployment) -> None:
    """See that nothing is protected.

    Raises:
        OpsError: something is.
    """
    if names := [state.name(urn) for urn in protected(deployment)]:
        raise OpsError(
            f"stack {stack.name} is protected, nothing was taken down. To take it down nevertheless: set machines and controlPlane of "
            f"{PROJECT}:protection to false in Pulumi.{stack.name}.yaml, `make up STACK={stack.name}`, then "
            f"`make down STACK={stack.name}`. Protected are {', '.join(names)}"
        )


def refuse_to_replace(stack: Stack, deployment: state.Deployment, gone: Collection[str]) -> None:
    """See that no machine that is gone is protected: that its driver does not have it may be a mistake, and its disk elsewhere.

    Args:
        stack: the stack.
        deployment: its state.
        gone: the URNs of machines that would be recreated.

    Raises:
        OpsError: one is; the message has the commands that give it up.
    """
    keep = set(protected(deployment))
    lost = [
        r["urn"]
        for r in state.resources(deployment)
        if r["urn"] in keep and (r["urn"] in gone or _made_with(r) & set(gone))
    ]
    if not lost:
        return
    names = ", ".join(state.name(urn) for urn in gone if urn in keep)
    commands = "\n".join(f"  pulumi state unprotect --stack {stack.name} --yes '{urn}'" for urn in lost)
    raise OpsError(
        f"{names}: protected, and the driver does not have it any more. If it only looks lost (another host, a driver that does not run), "
        f"put that right. If it is lost, give it up, and `make up STACK={stack.name}` makes it anew, protected again:\n"
        f'  eval "$(make -s env)"\n{commands}'
    )


def _made_with(resource: state.Deployment) -> set[str]:
    """What a resource is recreated with."""
    return set((resource.get("propertyDependencies") or {}).get("triggers") or ())
