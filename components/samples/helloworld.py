"""Istio's helloworld sample in two versions, and pods to call from: inside the mesh, at its edge and outside.

After istio's samples/helloworld/helloworld.yaml and samples/curl/curl.yaml, with limits and without root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core import v1 as core

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane
from components.names import Key, formerly, resource_name

SERVICE = "helloworld"
PORT = 5000
CLIENT = "curl"
PLAIN = {"sidecar.istio.io/inject": "false"}
"""Labels of a pod that gets no sidecar whatever its namespace says."""


@dataclass(frozen=True)
class SampleNamespaces:
    """Names of the namespaces that the sample's pods are in."""

    samples: str
    """Of helloworld and of the clients `curl` and `stranger`; its pods get sidecars."""
    guarded: str
    """Of the clients `curl`, which gets a sidecar, and `plain`, which does not."""
    outside: str
    """Of another client `plain`; its pods get no sidecars."""


@dataclass(frozen=True)
class _Pod:
    """One pod, with a Deployment and an account of the same name."""

    key: Key
    former: str
    """What a state of before may call its Deployment, behind the component's name."""
    selector: Mapping[str, str]
    labels: Mapping[str, str]
    """Those of the pod besides the ones that it is found by."""


def account_names(namespaces: SampleNamespaces, versions: Iterable[str]) -> dict[Key, str]:
    """The accounts that the pods run as, each with what a state of before may call it, behind the component's name."""
    return {pod.key: f"{pod.former}-account" for pod in _pods(namespaces, versions)}


def _pods(namespaces: SampleNamespaces, versions: Iterable[str]) -> Iterator[_Pod]:
    for version in versions:
        key = (namespaces.samples, f"helloworld-{version}")
        yield _Pod(key, version, {"app": SERVICE, "version": version}, {})
    for part, client, namespace, labels in (
        ("", CLIENT, namespaces.samples, {}),
        ("", "stranger", namespaces.samples, {}),
        ("guarded-", CLIENT, namespaces.guarded, {}),
        ("guarded-", "plain", namespaces.guarded, PLAIN),
        ("outside-", "plain", namespaces.outside, {}),
    ):
        yield _Pod((namespace, client), f"{part}{client}", {"app": client}, labels)


class HelloworldArgs(TypedDict):
    """Where the sample runs, and its images."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    sample_namespaces: SampleNamespaces
    namespaces: Mapping[str, pulumi.Input[str]]
    """The namespaces themselves, by their names."""
    accounts: Mapping[Key, kubernetes.core.v1.ServiceAccount]
    """Those of `account_names`."""
    images: Mapping[str, str]
    """Version to image."""
    client_image: str
    """An image with `curl` and `sleep`."""


class Helloworld(pulumi.ComponentResource):
    """Two Deployments behind one Service, and the clients, each with an account, a label `app` and a container of its own name."""

    running: list[pulumi.Resource]
    """Done when every pod is available."""

    def __init__(self, name: str, args: HelloworldArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Deploy both versions and the clients."""
        super().__init__("istio-vms:samples:Helloworld", name, None, opts)
        self.running = []
        for pod in _pods(args["sample_namespaces"], args["images"]):
            app = pod.selector["app"]
            container = (
                _container(app, args["images"][pod.selector["version"]], ports=[PORT])
                if app == SERVICE
                else _container(app, args["client_image"], command=["/bin/sleep", "infinity"])
            )
            self.running.append(self._deployment(f"{name}-{pod.former}", pod, container, args))
        self.register_outputs({})

    def _deployment(
        self, former: str, pod: _Pod, container: core.ContainerArgs, args: HelloworldArgs
    ) -> kubernetes.apps.v1.Deployment:
        namespace, name = pod.key
        return kubernetes.apps.v1.Deployment(
            resource_name("Deployment", pod.key),
            metadata={"name": name, "namespace": args["namespaces"][namespace], "labels": pod.selector},
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels=pod.selector),
                template=core.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(labels={**pod.selector, **pod.labels}),
                    spec=core.PodSpecArgs(
                        service_account_name=args["accounts"][pod.key].metadata.apply(
                            lambda metadata: str(metadata.name)
                        ),
                        termination_grace_period_seconds=1,
                        containers=[container],
                    ),
                ),
            ),
            opts=args["cluster"].options(self, args["control_plane"].istiod, formerly=[formerly(former)]),
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
