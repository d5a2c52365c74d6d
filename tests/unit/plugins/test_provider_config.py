"""When a changed provider means another cluster: the cases of pulumi-kubernetes' own DiffConfig tests."""

from __future__ import annotations

import json

import pytest

from lab.plugins.kubernetes.provider import KubernetesProvider
from lab.plugins.values import UNKNOWN, Secret


def kubeconfig(server: str, token: str = "t") -> str:
    return json.dumps(
        {
            "current-context": "c",
            "contexts": [
                {"name": "c", "context": {"cluster": "k", "user": "u"}},
                {"name": "d", "context": {"cluster": "l", "user": "u"}},
            ],
            "clusters": [
                {"name": "k", "cluster": {"server": server}},
                {"name": "l", "cluster": {"server": "https://other"}},
            ],
            "users": [{"name": "u", "user": {"token": token}}],
        }
    )


ONE, TWO = kubeconfig("https://one"), kubeconfig("https://two")


@pytest.mark.parametrize(
    ("old", "new", "changed", "replaced"),
    [
        ({"kubeconfig": ONE}, {"kubeconfig": ONE}, False, False),
        ({"kubeconfig": ONE}, {"kubeconfig": kubeconfig("https://one", "renewed")}, True, False),
        ({"kubeconfig": ONE}, {"kubeconfig": TWO}, True, True),
        ({"kubeconfig": ONE}, {"kubeconfig": ONE, "context": "d"}, True, True),
        ({"kubeconfig": ONE}, {"kubeconfig": ONE, "cluster": "l"}, True, True),
        ({"kubeconfig": ONE}, {"kubeconfig": UNKNOWN}, True, True),
        ({"kubeconfig": ONE, "clusterIdentifier": "a"}, {"kubeconfig": UNKNOWN, "clusterIdentifier": "a"}, True, False),
        ({"kubeconfig": ONE, "clusterIdentifier": "a"}, {"kubeconfig": TWO, "clusterIdentifier": "a"}, True, False),
        ({"kubeconfig": ONE, "clusterIdentifier": "a"}, {"kubeconfig": ONE, "clusterIdentifier": "b"}, True, True),
        ({"kubeconfig": ONE, "clusterIdentifier": "a"}, {"kubeconfig": ONE, "clusterIdentifier": UNKNOWN}, True, True),
        ({"kubeconfig": ONE}, {"kubeconfig": ONE, "clusterIdentifier": "a"}, True, False),
        ({"kubeconfig": ONE, "clusterIdentifier": "a"}, {"kubeconfig": ONE}, True, False),
        ({"kubeconfig": ONE}, {"kubeconfig": ONE, "deleteUnreachable": "true"}, True, False),
        ({"kubeconfig": Secret(ONE)}, {"kubeconfig": Secret(TWO)}, True, True),
    ],
)
def test_diff_config(old: dict[str, object], new: dict[str, object], changed: bool, replaced: bool) -> None:
    difference = KubernetesProvider().diff_config(old, new)
    assert bool(difference.changes) == changed
    assert bool(difference.replaces) == replaced


def test_settings_that_are_not_supported_are_errors() -> None:
    failures = KubernetesProvider().check_config({"kubeconfig": ONE, "renderYamlToDirectory": "x", "namespace": "n"})
    assert failures.keys() == {"renderYamlToDirectory"}
    assert KubernetesProvider().check_config({"enableServerSideApply": "false"}).keys() == {"enableServerSideApply"}
