"""Policy east-west-exposure."""

from typing import Any

import pytest

from review.model import Resource
from review.values import UNKNOWN_STRING
from tests.unit.review.rules.conftest import kubernetes, said

ALLOWED = ["sample/helloworld"]


def gateway(*hosts: Any, mode: str = "AUTO_PASSTHROUGH", version: str = "networking.istio.io/v1") -> Resource:
    return kubernetes("Gateway", version, spec={"servers": [{"tls": {"mode": mode}, "hosts": list(hosts)}]})


def exposure(about: Resource) -> list[str]:
    return said("east-west-exposure", about, exposed=ALLOWED)


@pytest.mark.parametrize("host", ["*.local", "*", "*.sample.svc.cluster.local", "sample/*", "*/*.local"])
def test_no_wildcard_whatever_is_allowed(host: str) -> None:
    assert "every Service it matches" in exposure(gateway(host))[0]


@pytest.mark.parametrize("host", ["other.sample.svc.cluster.local", "helloworld.other.svc.cluster.local", "helloworld"])
def test_a_service_that_is_not_allowed_is_not_exposed(host: str) -> None:
    (message,) = exposure(gateway("helloworld.sample.svc.cluster.local", host))
    assert message.startswith(f"host {host} is exposed but not allowed")


def test_nothing_is_allowed_by_default() -> None:
    assert len(said("east-west-exposure", gateway("helloworld.sample.svc.cluster.local"))) == 1


@pytest.mark.parametrize(
    "about",
    [
        gateway("helloworld.sample.svc.cluster.local"),
        gateway("istio-system/helloworld.sample.svc.cluster.local"),
        gateway(UNKNOWN_STRING),
        gateway("*", mode="PASSTHROUGH"),
        gateway("*", version="gateway.networking.k8s.io/v1"),
    ],
)
def test_allowed_services_and_other_servers_are_right(about: Resource) -> None:
    assert exposure(about) == []


def test_older_versions_of_the_api_count_as_well() -> None:
    assert len(exposure(gateway("*.local", version="networking.istio.io/v1beta1"))) == 1
