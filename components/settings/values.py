"""The types of single values: each refuses what is wrong and says what would be right."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field


def matching(pattern: str, what: str) -> AfterValidator:
    """A text that matches `pattern` as a whole; `what` says what would be right."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(what)
        return value

    return AfterValidator(check)


def _cidr(value: str) -> str:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"should be an IPv4 network such as 10.89.0.0/24 ({error})") from None
    if network.prefixlen > 28:
        raise ValueError("should have room for machines: a prefix of /28 or shorter")
    return value


def _quantity(minimum_mib: int) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(r"[1-9]\d*(Mi|Gi)", value):
            raise ValueError("should be a whole number of Mi or Gi, such as 2Gi")
        if mib(value) < minimum_mib:
            raise ValueError(f"should be at least {minimum_mib}Mi")
        return value

    return AfterValidator(check)


def mib(quantity: str) -> int:
    """MiB of a quantity of whole Mi or Gi: 2048 for `2Gi`."""
    number = int(quantity[:-2])
    return number * 1024 if quantity.endswith("Gi") else number


_NEEDED = {
    "traefik": "is off, always; remove it here",
    "servicelb": "is what gateways get their addresses from; remove it here",
    "coredns": "is what pods and gateways find istiod by; remove it here",
}


def _packaged(value: str) -> str:
    if value not in ("metrics-server", "local-storage"):
        raise ValueError(_NEEDED.get(value, "should be metrics-server or local-storage"))
    return value


def _expand(value: str) -> str:
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise ValueError("should be an absolute path or begin with ~/")
    return str(path)


DnsLabel = Annotated[
    str,
    matching(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "should be a DNS label: a-z, 0-9 and -, from 1 to 40 characters"),
]
"""A name both Kubernetes and every driver accept, short enough to take a stack's name in front."""
Revision = Annotated[
    str,
    matching(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", "should be made of a-z, 0-9 and -, such as 1-30-3"),
]
"""An Istio revision: part of istiod's name, so it may begin with a digit."""
K3sVersion = Annotated[
    str,
    matching(r"v1\.(2[89]|3\d)\.\d+\+k3s\d+", "should be a k3s release from v1.28 on in full, such as v1.36.5+k3s1"),
]
IstioVersion = Annotated[
    str,
    matching(
        r"1\.(3\d|[4-9]\d)(\.\d+|-alpha\.[0-9a-f.]+)",
        "should be an Istio release from 1.30 on, whose gateway chart has networkGatewayPorts, such as 1.30.5",
    ),
]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "should be 64 hexadecimal digits")]
HttpsUrl = Annotated[str, matching(r"https://\S+", "should be an https:// URL")]
HostKey = Annotated[
    str,
    matching(
        r"(ssh-ed25519|ecdsa-sha2-\S+|ssh-rsa) [A-Za-z0-9+/=]+",
        "should be a public host key as in known_hosts: type and base64, such as `ssh-ed25519 AAAA…`",
    ),
]
NamespacedName = Annotated[
    str,
    matching(
        r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?/[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
        "should be a namespace and a name with / between, such as sample/helloworld",
    ),
]
PackagedComponent = Annotated[str, AfterValidator(_packaged)]
"""A component that k3s brings along and a cluster can do without."""
HostName = Annotated[
    str,
    matching(
        r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?",
        "should be a host name or an IPv4 address, without scheme and port, such as k8s.example.org",
    ),
]
LocalPath = Annotated[str, AfterValidator(_expand)]
Cidr = Annotated[str, AfterValidator(_cidr)]
Port = Annotated[int, Field(ge=1, le=65535)]
Memory = Annotated[str, _quantity(512)]
Disk = Annotated[str, _quantity(5 * 1024)]


class DriverName(StrEnum):
    """How machines come to exist."""

    NSPAWN = "nspawn"
    MULTIPASS = "multipass"
    EXISTING = "existing"


class MtlsMode(StrEnum):
    """What a workload's sidecar accepts: mutual TLS only, or plaintext too."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
