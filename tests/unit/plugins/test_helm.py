from __future__ import annotations

from typing import Any

import pytest

from lab.plugins.kubernetes.cluster import Cluster
from lab.plugins.kubernetes.helm import Releases
from lab.plugins.provider import Call
from lab.plugins.values import ASSET, UNKNOWN, Asset, Secret

CALL = Call(urn="urn:pulumi:s::p::kubernetes:helm.sh/v3:Release::r", type="kubernetes:helm.sh/v3:Release", name="r")


@pytest.mark.parametrize(
    ("inputs", "property"),
    [
        ({}, "chart"),
        ({"chart": "c", "postrender": "x"}, "postrender"),
        ({"chart": "c", "valueYamlFiles": [Asset(ASSET, {})]}, "valueYamlFiles"),
        ({"chart": "c", "repositoryOpts": {"repo": "r", "password": "p"}}, "repositoryOpts.password"),
        ({"chart": "c", "values": {"a": [Asset(ASSET, {})]}}, "values"),
        ({"chart": "c", "description": Secret("x")}, "description"),
        ({"chart": "c", "nonsense": 1}, "nonsense"),
    ],
)
def test_what_is_not_supported_is_an_error(inputs: dict[str, Any], property: str) -> None:
    _, failures = Releases(Cluster()).check(CALL, {}, inputs)
    assert failures.keys() == {property}


def test_defaults_while_something_is_unknown() -> None:
    inputs, failures = Releases(Cluster(namespace="space")).check(CALL, {}, {"chart": UNKNOWN})
    assert failures == {}
    assert inputs["name"].startswith("r-")
    assert (inputs["namespace"], inputs["timeout"]) == ("space", 300)


def test_the_given_name_stays() -> None:
    inputs, _ = Releases(Cluster(namespace="space")).check(
        CALL, {"name": "r-1234"}, {"chart": UNKNOWN, "skipAwait": True}
    )
    assert inputs["name"] == "r-1234"
    assert "timeout" not in inputs
