"""What a member's certificate says, and when it needs another one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from actions.workloads import certificate
from actions.workloads.certificate import Certificate
from actions.workloads.vm import Vm

ID = "spiffe://cluster.local/ns/vmns/sa/app-sa"
ISSUED = datetime(2026, 11, 21, 10, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def signed(spiffe_id: str | None = ID, life: int = 60, serial: int = 7) -> str:
    """A certificate as istiod makes it, dated two minutes back."""
    name = x509.Name([])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=KEY.public_key(),
        serial_number=serial,
        not_valid_before=ISSUED - timedelta(minutes=2),
        not_valid_after=ISSUED + timedelta(seconds=life),
    )
    if spiffe_id:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
        builder = builder.add_extension(names, critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class FakeVm(Vm):
    """Has the certificate."""

    def __init__(self, pem: str | None, now: datetime = ISSUED) -> None:
        self.answer = {"pem": pem, "now": now.timestamp()}

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        assert action == "certificate"
        return self.answer


def test_the_first_of_a_chain_is_the_members() -> None:
    assert certificate.read(FakeVm(signed() + signed("spiffe://ca", serial=8))) == Certificate(
        serial=7,
        not_before=ISSUED - timedelta(minutes=2),
        not_after=ISSUED + timedelta(seconds=60),
        spiffe_id=ID,
    )


@pytest.mark.parametrize("pem", [None, "", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_reads_as_none(pem: str | None) -> None:
    assert certificate.read(FakeVm(pem)) is None


def test_a_machine_without_a_certificate_has_nothing_to_drop() -> None:
    assert certificate.flaw(FakeVm(None), ID) is None


@pytest.mark.parametrize("seconds", [-119, 0, 59])
def test_a_certificate_in_its_life_is_good_by_the_machines_clock(seconds: int) -> None:
    assert certificate.flaw(FakeVm(signed(), ISSUED + timedelta(seconds=seconds)), ID) is None


@pytest.mark.parametrize(
    ("pem", "seconds", "reason"),
    [
        (signed(), 60, "is valid from 2026-11-21 09:58:00Z to 2026-11-21 10:01:00Z, and it is 2026-11-21 10:01:00Z"),
        (signed(), -121, "and it is 2026-11-21 09:57:59Z"),
        (signed("spiffe://cluster.local/ns/vmns/sa/other"), 0, "is that of spiffe://cluster.local/ns/vmns/sa/other"),
        (signed(None), 0, "is that of nobody"),
        ("", 0, "cannot be read"),
    ],
)
def test_what_gets_no_other_certificate_is_told(pem: str, seconds: int, reason: str) -> None:
    assert reason in (certificate.flaw(FakeVm(pem, ISSUED + timedelta(seconds=seconds)), ID) or "")
