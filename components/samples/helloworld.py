"""Istio's helloworld sample in two versions, and a pod to call from.

After istio's samples/helloworld/helloworld.yaml and samples/curl/curl.yaml, with limits and without root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core import v1 as core

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane

PORT = 5000
CLIENT = "curl"


class HelloworldArgs(TypedDict):
    """Where the sample runs, and its images."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    namespace: pulumi.Input[str]
    images: Mapping[str, str]
    """Version to image."""
    client_image: str
    """An image with `curl` and `sleep`."""


class Helloworld(pulumi.ComponentResource):
    """A Service over two Deployments, and the client."""

    running: list[pulumi.Resource]
    """Done when every pod is available."""

    def __init__(self, name: str, args: HelloworldArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Deploy both versions and the client, all with sidecars."""
        super().__init__("istio-vms:samples:Helloworld", name, None, opts)
        cluster = args["cluster"]
        self._namespace = args["namespace"]
        self._options = cluster.options(self, args["control_plane"].istiod)
        kubernetes.core.v1.Service(
            f"{name}-service",
            metadata={"name": "helloworld", "namespace": self._namespace, "labels": {"app": "helloworld"}},
            spec=core.ServiceSpecArgs(
                selector={"app": "helloworld"},
                ports=[core.ServicePortArgs(name="http", port=PORT, target_port=PORT)],
            ),
            opts=cluster.options(self),
        )
        self.running = [
            self._deployment(
                f"{name}-{version}",
                f"helloworld-{version}",
                {"app": "helloworld", "version": version},
                _container("helloworld", image, ports=[PORT]),
            )
            for version, image in args["images"].items()
        ]
        client = _container(CLIENT, args["client_image"], command=["/bin/sleep", "infinity"])
        self.running.append(self._deployment(f"{name}-{CLIENT}", CLIENT, {"app": CLIENT}, client))
        self.register_outputs({})

    def _deployment(
        self, resource: str, name: str, labels: Mapping[str, str], container: core.ContainerArgs
    ) -> kubernetes.apps.v1.Deployment:
        account = kubernetes.core.v1.ServiceAccount(
            f"{resource}-account", metadata={"name": name, "namespace": self._namespace}, opts=self._options
        )
        return kubernetes.apps.v1.Deployment(
            resource,
            metadata={"name": name, "namespace": self._namespace, "labels": labels},
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels=labels),
                template=core.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(labels=labels),
                    spec=core.PodSpecArgs(
                        service_account_name=account.metadata.apply(lambda metadata: str(metadata.name)),
                        termination_grace_period_seconds=1,
                        containers=[container],
                    ),
                ),
            ),
            opts=self._options,
        )


def _container(
    name: str, image: str, ports: Sequence[int] = (), command: Sequence[str] | None = None
) -> core.ContainerArgs:
    return core.ContainerArgs(
        name=name,
        image=image,
        command=command,
        ports=[core.ContainerPortArgs(container_port=port) for port in ports],
        image_pull_policy="IfNotPresent",
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "10m", "memory": "32Mi"}, limits={"cpu": "500m", "memory": "128Mi"}
        ),
        security_context=core.SecurityContextArgs(
            allow_privilege_escalation=False,
            capabilities=core.CapabilitiesArgs(drop=["ALL"]),
            run_as_non_root=True,
            run_as_user=1000,
        ),
    )
