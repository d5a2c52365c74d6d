"""The certificate that a member shows to others, read from the machine and parsed here.

The sidecar writes it to `/etc/certs` whenever it gets one, at half of its life (`OUTPUT_CERTS` of `istio-start.sh`). After a start it is
also what the sidecar itself shows to istiod, which gives it the next one. Its key is never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from actions.workloads.vm import Vm


@dataclass(frozen=True)
class Certificate:
    """A member's certificate.

    Attributes:
        serial: its number, another one after each renewal.
        not_before: UTC; istiod writes two minutes before the issue, for clocks that are behind.
        not_after: UTC; the end of its life.
        spiffe_id: whose it is, such as `spiffe://cluster.local/ns/vmns/sa/external-app`; empty when it does not say.
    """

    serial: int
    not_before: datetime
    not_after: datetime
    spiffe_id: str


def read(vm: Vm) -> Certificate | None:
    """The machine's certificate; None when it has none, or something that is no certificate.

    Raises:
        VmError: the machine cannot be asked.
    """
    pem = vm.ask("certificate")["pem"]
    return parse(pem) if pem else None


def flaw(vm: Vm, spiffe_id: str) -> str | None:
    """Why the machine's certificate will not get it another one, for people; None when it will, or when there is no certificate.

    It is held against the machine's own clock, by which the sidecar renews it.

    Raises:
        VmError: the machine cannot be asked.
    """
    said = vm.ask("certificate")
    if said["pem"] is None:
        return None
    found = parse(said["pem"])
    now = datetime.fromtimestamp(said["now"], UTC)
    if found is None:
        return "cannot be read"
    if not found.not_before <= now < found.not_after:
        return f"is valid from {found.not_before:%F %T}Z to {found.not_after:%F %T}Z, and it is {now:%F %T}Z"
    return None if found.spiffe_id == spiffe_id else f"is that of {found.spiffe_id or 'nobody'}"


def parse(pem: str) -> Certificate | None:
    """The first certificate in the text, which comes before those that vouch for it; None when there is none."""
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None
    return Certificate(
        serial=found.serial_number,
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        spiffe_id=next(iter(_uris(found)), ""),
    )


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
