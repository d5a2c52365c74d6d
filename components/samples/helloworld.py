"""Istio's helloworld sample in two versions, and pods to call from: inside the mesh, at its edge and outside.

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

SERVICE = "helloworld"
PORT = 5000
CLIENT = "curl"
PLAIN = {"sidecar.istio.io/inject": "false"}
"""Labels of a pod that gets no sidecar whatever its namespace says."""


class HelloworldArgs(TypedDict):
    """Where the sample runs, and its images."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    namespace: pulumi.Input[str]
    """Of helloworld and of the clients `curl` and `stranger`; its pods get sidecars."""
    guarded_namespace: pulumi.Input[str]
    """Of the clients `curl`, which gets a sidecar, and `plain`, which does not."""
    outside_namespace: pulumi.Input[str]
    """Of another client `plain`; its pods get no sidecars."""
    images: Mapping[str, str]
    """Version to image."""
    client_image: str
    """An image with `curl` and `sleep`."""


class Helloworld(pulumi.ComponentResource):
    """A Service over two Deployments, and the clients, each with an account, a label `app` and a container of its own name."""

    running: list[pulumi.Resource]
    """Done when every pod is available."""

    def __init__(self, name: str, args: HelloworldArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Deploy both versions and the clients."""
        super().__init__("istio-vms:samples:Helloworld", name, None, opts)
        cluster, namespace, guarded = args["cluster"], args["namespace"], args["guarded_namespace"]
        self._options = cluster.options(self, args["control_plane"].istiod)
        kubernetes.core.v1.Service(
            f"{name}-service",
            metadata={"name": SERVICE, "namespace": namespace, "labels": {"app": SERVICE}},
            spec=core.ServiceSpecArgs(
                selector={"app": SERVICE},
                ports=[core.ServicePortArgs(name="http", port=PORT, target_port=PORT)],
            ),
            opts=cluster.options(self),
        )
        self.running = [
            self._deployment(
                f"{name}-{version}",
                f"helloworld-{version}",
                namespace,
                {"app": SERVICE, "version": version},
                _container(SERVICE, image, ports=[PORT]),
            )
            for version, image in args["images"].items()
        ]
        for part, client, where, labels in (
            ("", CLIENT, namespace, {}),
            ("", "stranger", namespace, {}),
            ("guarded-", CLIENT, guarded, {}),
            ("guarded-", "plain", guarded, PLAIN),
            ("outside-", "plain", args["outside_namespace"], {}),
        ):
            container = _container(client, args["client_image"], command=["/bin/sleep", "infinity"])
            self.running.append(
                self._deployment(f"{name}-{part}{client}", client, where, {"app": client}, container, labels)
            )
        self.register_outputs({})

    def _deployment(
        self,
        resource: str,
        name: str,
        namespace: pulumi.Input[str],
        selector: Mapping[str, str],
        container: core.ContainerArgs,
        labels: Mapping[str, str] | None = None,
    ) -> kubernetes.apps.v1.Deployment:
        """One pod with an account of the same name; `labels` are the pod's besides those it is found by."""
        account = kubernetes.core.v1.ServiceAccount(
            f"{resource}-account", metadata={"name": name, "namespace": namespace}, opts=self._options
        )
        return kubernetes.apps.v1.Deployment(
            resource,
            metadata={"name": name, "namespace": namespace, "labels": selector},
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels=selector),
                template=core.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(labels={**selector, **(labels or {})}),
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
