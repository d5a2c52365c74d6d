"""All policies."""

from __future__ import annotations

from review.model import Rule
from review.rules.exposure import exposed_services
from review.rules.host_keys import pinned_host_keys
from review.rules.machines import kept, present
from review.rules.mtls import mesh_wide, strict
from review.rules.pins import pinned_versions
from review.rules.secrets import plaintext_secrets
from review.rules.workloads import bounded


def _texts(description: str, *default: str) -> dict[str, object]:
    return {"type": "array", "items": {"type": "string"}, "default": list(default), "description": description}


RULES = (
    Rule(
        "plaintext-secrets",
        "No private key, token, kubeconfig or password stands in plain text in a resource's inputs.",
        resource=plaintext_secrets,
    ),
    Rule("mtls-strict", "Every PeerAuthentication asks for mutual TLS of mode STRICT.", resource=strict),
    Rule(
        "mtls-mesh-wide",
        "A PeerAuthentication covers the whole mesh.",
        stack=mesh_wide,
        options={
            "rootNamespace": {
                "type": "string",
                "default": "istio-system",
                "description": "Istio's root namespace, whose policies are the mesh's.",
            }
        },
    ),
    Rule(
        "pinned-versions",
        "Charts, images, k3s and downloads are of one exact version, and downloads are verified.",
        resource=pinned_versions,
    ),
    Rule(
        "protected-machines",
        "Protected machines are neither deleted nor replaced.",
        stack=present,
        changes=kept,
        options={"machines": _texts("Names of machines as the driver has them, or patterns such as prod-vm-*.", "*")},
    ),
    Rule(
        "east-west-exposure",
        "The east-west gateway lets other networks through to allowed Services only, each by its name.",
        resource=exposed_services,
        options={"exposed": _texts("Services that may be exposed, namespace/name each.")},
    ),
    Rule(
        "workload-resources",
        "Containers have requests and limits.",
        resource=bounded,
        options={
            "requests": _texts("Resources that have to be requested.", "cpu", "memory"),
            "limits": _texts("Resources that have to be limited.", "cpu", "memory"),
        },
    ),
    Rule("pinned-host-keys", "SSH connections know the key of their host beforehand.", resource=pinned_host_keys),
)
