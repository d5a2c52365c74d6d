from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from review.model import Resource
from review.rules import RULES

BY_NAME = {rule.name: rule for rule in RULES}


def resource(kind: str, inputs: Mapping[str, Any], *, name: str = "it", hidden: bool = True) -> Resource:
    """A resource of stack `prod`; `kind` is its type, behind those of its parents."""
    return Resource(f"urn:pulumi:prod::istio-vms::{kind}::{name}", inputs, secrets_hidden=hidden)


def command(*, remote: bool = False, hidden: bool = True, **inputs: Any) -> Resource:
    """A local command, or one over SSH."""
    return resource(f"command:{'remote' if remote else 'local'}:Command", inputs, hidden=hidden)


def kubernetes(kind: str, version: str = "v1", *, hidden: bool = True, **inputs: Any) -> Resource:
    """A Kubernetes object."""
    declared = {"apiVersion": version, "kind": kind, **inputs}
    return resource(f"kubernetes:{version}:{kind}", declared, hidden=hidden)


def deployment(*containers: Mapping[str, Any]) -> Resource:
    """A Deployment of these containers."""
    return kubernetes("Deployment", "apps/v1", spec={"template": {"spec": {"containers": list(containers)}}})


def release(**inputs: Any) -> Resource:
    """A Helm release."""
    return resource("kubernetes:helm.sh/v3:Release", inputs)


def said(policy: str, about: Resource, **options: Any) -> list[str]:
    """What a policy has against a resource."""
    rule = BY_NAME[policy]
    assert rule.resource
    return list(rule.resource(about, rule.configured(options)))
