"""A namespace on an existing cluster."""

import pulumi
import pulumi_kubernetes as k8s

from actions.cluster import kubeconfig
from components.cluster.existing import ExistingCluster

config = pulumi.Config()
name = config.require("namespace")
cluster = ExistingCluster(
    "cluster",
    {
        "kubeconfig": kubeconfig.read(config.require("kubeconfig"), "there"),
        "context": "there",
        "owner": "istio-vms/engine",
        "namespaces": [name],
    },
)
k8s.core.v1.Namespace("namespace", metadata={"name": name}, opts=cluster.access.options(cluster))
pulumi.export("version", cluster.version)
