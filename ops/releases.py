"""Helm releases that a killed run left in the middle of something, or that lack objects of theirs."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from actions.kube import Cluster
from ops import state
from ops.files import lent_file
from ops.objects import Differences
from ops.workspace import Stack

HELM_SECONDS = 120
WAIT = ("--wait", "--timeout", "90s")


class HelmError(Exception):
    """Helm could not do it, or is not there."""


@dataclass(frozen=True)
class Helm:
    """The helm command line on one cluster."""

    env: Mapping[str, str]

    def __call__(self, *words: str) -> None:
        """Run it.

        Raises:
            HelmError: it failed, is missing, or does not end.
        """
        try:
            ran = subprocess.run(
                ["helm", *words], env=self.env, text=True, capture_output=True, timeout=HELM_SECONDS, check=False
            )
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise HelmError(str(error)) from None
        if ran.returncode:
            raise HelmError(ran.stderr.strip())


@contextmanager
def helm(stack: Stack, kubeconfig: str) -> Generator[Helm]:
    """Helm with the kubeconfig in a file of its own, for as long as it is needed."""
    with lent_file(stack.folder, "kubeconfig", kubeconfig) as file:
        yield Helm({**stack.env, "KUBECONFIG": str(file)})


def uninstall(run: Helm, name: str, namespace: str) -> None:
    """Remove a release; telling, and going on, when it cannot be."""
    try:
        run("uninstall", name, "--namespace", namespace, "--ignore-not-found", *WAIT)
    except HelmError as error:
        print(f"repair: going on, though helm could not remove {name}: {error}")


def put_right(
    stack: Stack, deployment: state.Deployment, differences: Differences, cluster: Cluster, kubeconfig: str
) -> list[str]:
    """Finish what was begun with releases of the state, and have those that lack objects make them again.

    Returns:
        The URNs of releases that are gone, for the state to forget.
    """
    urns = [*differences.unfinished, *(urn for urn in differences.releases if urn not in differences.unfinished)]
    if not urns:
        return []
    resources = {resource["urn"]: resource for resource in state.resources(deployment)}
    with helm(stack, kubeconfig) as run:
        return [urn for urn in urns if not _is_there(run, cluster, resources[urn], differences)]


def _is_there(run: Helm, cluster: Cluster, resource: Mapping[str, Any], differences: Differences) -> bool:
    """Put one release right; whether there still is one then."""
    namespace, _, name = resource["id"].rpartition("/")
    revisions = _revisions(cluster, namespace, name)
    status, good = differences.unfinished.get(resource["urn"]), _good(revisions)
    if not good:
        if revisions:
            print(f"repair: Helm release {name} is {status}: removing what there is of it")
            uninstall(run, name, namespace)
        print(f"repair: Helm release {name} is gone; it is made again if it is still wanted")
        return False
    lacks = ", ".join(map(str, differences.releases.get(resource["urn"], ())))
    why = f"was left {status} by an earlier run" if status else f"lacks {lacks}"
    print(f"repair: Helm release {name} {why}; it goes back to its revision {good}")
    try:
        run("rollback", name, str(good), "--namespace", namespace, *WAIT)
    except HelmError as error:
        print(f"repair: going on, though helm could not roll {name} back: {error}")
    return True


def _revisions(cluster: Cluster, namespace: str, name: str) -> dict[int, str]:
    """The revisions of a release and their statuses, by the labels of Helm's own records."""
    records = cluster.items(f"/api/v1/namespaces/{namespace}/secrets", f"owner=helm,name={name}")
    labels = [record["metadata"]["labels"] for record in records]
    return {int(one["version"]): one["status"] for one in labels}


def _good(revisions: Mapping[int, str]) -> int | None:
    """The newest revision that was once whole; None where none was, or all of it is being removed."""
    if "uninstalling" in revisions.values():
        return None
    return max((one for one, status in revisions.items() if status in ("deployed", "superseded")), default=None)
