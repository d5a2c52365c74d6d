"""Policies mtls-strict and mtls-mesh-wide."""

from typing import Any

import pytest

from review.model import Resource
from review.values import UNKNOWN_STRING
from tests.unit.review.rules.conftest import BY_NAME, kubernetes, release, said


def peer(spec: Any, namespace: str = "istio-system") -> Resource:
    return kubernetes("PeerAuthentication", "security.istio.io/v1", metadata={"namespace": namespace}, spec=spec)


STRICT = {"mtls": {"mode": "STRICT"}}
ISTIOD = release(chart="/charts/istiod")


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE", "UNSET"])
def test_no_mode_below_strict_for_all_ports_or_for_one(mode: str) -> None:
    assert mode in said("mtls-strict", peer({"mtls": {"mode": mode}}))[0]
    (message,) = said("mtls-strict", peer({**STRICT, "portLevelMtls": {"8080": {"mode": mode}}}))
    assert message.startswith(f"spec.portLevelMtls.8080.mode is {mode}")


@pytest.mark.parametrize("spec", [{}, {"mtls": {}}, None])
def test_a_mode_that_is_not_named_is_none(spec: Any) -> None:
    assert "UNSET" in said("mtls-strict", peer(spec))[0]


@pytest.mark.parametrize(
    "spec",
    [
        STRICT,
        UNKNOWN_STRING,
        {"mtls": UNKNOWN_STRING},
        {"mtls": {"mode": UNKNOWN_STRING}},
        {**STRICT, "portLevelMtls": {"1": STRICT["mtls"]}},
    ],
)
def test_strict_and_not_known_yet_are_right(spec: Any) -> None:
    assert said("mtls-strict", peer(spec)) == []


def mesh_wide(*resources: Resource, **options: str) -> list[str]:
    rule = BY_NAME["mtls-mesh-wide"]
    assert rule.stack
    return [violation.message for violation in rule.stack(resources, rule.configured(options))]


def test_a_mesh_without_a_policy_for_all_of_it_accepts_plain_text() -> None:
    assert len(mesh_wide(ISTIOD)) == 1
    assert len(mesh_wide(ISTIOD, peer(STRICT, namespace="sample"))) == 1
    assert len(mesh_wide(ISTIOD, peer({**STRICT, "selector": {"matchLabels": {"app": "a"}}}))) == 1
    assert len(mesh_wide(ISTIOD, peer(STRICT), rootNamespace="istio-root")) == 1


def test_one_in_the_root_namespace_is_the_whole_meshs() -> None:
    assert mesh_wide(ISTIOD, peer(STRICT)) == []
    assert mesh_wide(ISTIOD, peer(STRICT, namespace=UNKNOWN_STRING)) == []
    assert mesh_wide(release(chart="base")) == []
