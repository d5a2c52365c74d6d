"""Istio's own kinds of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

NETWORKING = "networking.istio.io/v1"
SECURITY = "security.istio.io/v1"
TELEMETRY = "telemetry.istio.io/v1"


def istio_object(
    resource: str,
    api_version: str,
    kind: str,
    name: str,
    namespace: pulumi.Input[str],
    spec: Mapping[str, Any],
    opts: pulumi.ResourceOptions,
) -> kubernetes.apiextensions.CustomResource:
    """One object of an Istio API; it depends on the CRDs by its options."""
    return kubernetes.apiextensions.CustomResource(
        resource,
        api_version=api_version,
        kind=kind,
        metadata={"name": name, "namespace": namespace},
        spec=spec,
        opts=opts,
    )


def host(service: str, namespace: str) -> str:
    """A Service's full name, which means the same in every namespace."""
    return f"{service}.{namespace}.svc.cluster.local"
