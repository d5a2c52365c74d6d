"""What other networks reach through the east-west gateway."""

from __future__ import annotations

from collections.abc import Iterable

from review.model import Options, Resource
from review.values import known, mapping, sequence


def exposed_services(resource: Resource, options: Options) -> Iterable[str]:
    """Hosts that an AUTO_PASSTHROUGH server lets through to their pods, and that are not meant to be."""
    if resource.kind != "Gateway" or not str(resource.inputs.get("apiVersion")).startswith("networking.istio.io/"):
        return
    for server in sequence(mapping(resource.inputs.get("spec")).get("servers")):
        if mapping(mapping(server).get("tls")).get("mode") != "AUTO_PASSTHROUGH":
            continue
        for host in filter(known, sequence(mapping(server).get("hosts"))):
            if "*" in host.rpartition("/")[2]:
                yield f"host {host} exposes every Service it matches, those of tomorrow too: name each one"
            elif _service(host) not in options["exposed"]:
                yield f"host {host} is exposed but not allowed: allow {_service(host)} in this policy's exposed, or do not expose it"


def _service(host: str) -> str:
    """`namespace/name` of `name.namespace.svc.<domain>`, with or without Istio's `namespace/` in front of a host."""
    name, namespace, *_ = [*host.rpartition("/")[2].split("."), ""]
    return f"{namespace}/{name}"
