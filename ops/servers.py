"""The servers of a cluster with several of them, of which some may be lost."""

from __future__ import annotations

from collections.abc import Collection

import yaml

from actions.kube import ApiCluster, KubeError, wait
from actions.protocol import Deadline
from actions.registry import LEAVE_CLUSTER, MEMBER
from ops import state
from ops.errors import OpsError
from ops.workspace import Stack

ANSWER_SECONDS = 60
"""How long servers that may just have been started get to agree that they are a cluster."""


def see_that_a_majority_is_left(deployment: state.Deployment, gone: Collection[str]) -> None:
    """See that servers recreated have a cluster to join; quick unless most servers are gone.

    Args:
        deployment: the stack's state.
        gone: names of machines that its driver does not have.

    Raises:
        OpsError: etcd has no majority, and nobody has brought the cluster back by hand.
    """
    hosts = _hosts(deployment)
    left = {name: host for name, host in hosts.items() if name not in gone}
    if len(hosts) < 2 or len(left) > len(hosts) // 2:
        return
    if any(_answers(state.kubeconfig(deployment) or "", host) for host in left.values()):
        return
    lost = ", ".join(name for name in hosts if name in gone)
    then = (
        f"What the cluster was is still on {', '.join(left)}: make it a cluster of its own by `k3s server --cluster-reset` there "
        "(https://docs.k3s.io/datastore/backup-restore), then `make up` again; or give it up by `make down`"
        if left
        else "`make down` and `make up` make another one; snapshots that are kept elsewhere can be restored into it "
        "(https://docs.k3s.io/datastore/backup-restore)"
    )
    raise OpsError(
        f"the cluster cannot go on: of its servers {lost} are gone, and without a majority etcd does not. {then}"
    )


def remove_nodes(stack: Stack, deployment: state.Deployment, names: Collection[str]) -> None:
    """Take nodes out of a cluster of ours whose machines were begun and are not wanted: Kubernetes keeps them, and etcd its members.

    Args:
        stack: the stack.
        deployment: its state.
        names: machines that may have become nodes.

    Raises:
        OpsError: one could not be taken out.
    """
    nodes = {document["node"]: document for _, document in state.requests(deployment, MEMBER)}
    strange = [name for name in names if name not in nodes]
    if not nodes or not strange:
        return
    cluster, servers = ApiCluster(state.kubeconfig(deployment) or ""), next(iter(nodes.values()))["servers"]
    for name in strange:
        if cluster.get(f"/api/v1/nodes/{name}"):
            print(f"repair: taking node {name} out of the cluster, whose machine is not wanted any more")
            stack.act(LEAVE_CLUSTER, {"node": name, "servers": servers})


def _hosts(deployment: state.Deployment) -> dict[str, str]:
    """The servers' names and addresses."""
    known = state.requests(deployment, MEMBER)
    return {server["name"]: server["ssh"]["host"] for _, document in known for server in document["servers"]}


def _answers(kubeconfig: str, host: str) -> bool:
    """Whether the server has a cluster: its API reads from etcd."""
    try:
        document = yaml.safe_load(kubeconfig)
        document["clusters"][0]["cluster"]["server"] = f"https://{host}:6443"
        cluster = ApiCluster(yaml.safe_dump(document))
        return not wait(
            lambda: None if cluster.get("/api/v1/namespaces/kube-system") else "not there",
            Deadline(ANSWER_SECONDS),
            pause=1,
        )
    except KubeError:
        return False
