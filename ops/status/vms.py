"""What each VM itself says of its membership: its certificate, and the roots that it trusts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from actions import ssh
from actions.protocol import Ssh
from actions.workloads import certificate
from actions.workloads.files import ROOT_CERTIFICATE
from actions.workloads.vm import Vm

CONNECT_SECONDS = 3
"""How long a VM may take to answer SSH: status tells of one that does not, where `up` waits for it."""


@dataclass(frozen=True)
class OnVm:
    """What a VM has.

    Attributes:
        certificate_ends: None when it has no certificate.
        identity: whose certificate it is; empty when it does not say, or is not there.
        roots: fingerprints of the root certificates that it trusts.
    """

    certificate_ends: datetime | None
    identity: str
    roots: frozenset[bytes]


def ask(document: Mapping[str, Any]) -> OnVm:
    """Ask the VM that joined with this document.

    Raises:
        VmError: it cannot be asked.
    """

    def connect(*target: Any) -> AbstractContextManager[ssh.Session]:
        return ssh.connect(*target[:-1], timeout=CONNECT_SECONDS)

    with Vm(Ssh(**document["ssh"]), connect) as vm:
        found = certificate.read(vm)
        trusted = vm.run(f"cat {ROOT_CERTIFICATE} 2>/dev/null || true")
    ends, identity = (found.not_after, found.spiffe_id) if found else (None, "")
    return OnVm(ends, identity, fingerprints(trusted))


def fingerprints(pem: str) -> frozenset[bytes]:
    """Those of the certificates in a text; none when it is not one of certificates."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return frozenset()
    return frozenset(one.fingerprint(hashes.SHA256()) for one in found)
