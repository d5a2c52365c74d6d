"""Servers that are lost: with a majority left they are recreated, without one the cluster is not thrown away."""

from typing import Any

import pytest
import yaml

from ops import servers
from ops.errors import OpsError
from tests.unit.ops.conftest import Api, command, provider

NAMES = ("lab-server-1", "lab-server-2", "lab-server-3")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ANSWER_SECONDS", 0)


def deployment(kubeconfig: str, names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    listed = [{"name": name, "ssh": {"host": f"10.89.0.1{i}"}} for i, name in enumerate(names)]
    nodes = [command(f"{name}-node", "cluster.member", {"node": name, "servers": listed}) for name in names]
    return {"resources": [provider(kubeconfig), *nodes]}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose API was asked; it is the test's own."""
    asked: list[str] = []
    real = servers.ApiCluster

    def connect(kubeconfig: str) -> servers.ApiCluster:
        document = yaml.safe_load(kubeconfig)
        cluster = document["clusters"][0]["cluster"]
        asked.append(cluster["server"])
        cluster["server"] = document["here"]
        return real(yaml.safe_dump(document))

    monkeypatch.setattr(servers, "ApiCluster", connect)
    return asked


def kubeconfig(api: Api) -> str:
    return yaml.safe_dump({**yaml.safe_load(api.kubeconfig), "here": api.url})


@pytest.mark.parametrize("gone", [[], ["lab-server-1"], ["lab-server-3", "lab-agent-1", "lab-vm-1"]])
def test_with_a_majority_nobody_is_asked(api: Api, reached: list[str], gone: list[str]) -> None:
    servers.see_that_a_majority_is_left(deployment(kubeconfig(api)), gone)
    assert reached == []


@pytest.mark.parametrize("names", [(), NAMES[:1]])
def test_a_single_server_or_none_is_no_majority_to_lose(api: Api, reached: list[str], names: tuple[str, ...]) -> None:
    servers.see_that_a_majority_is_left(deployment(kubeconfig(api), names), ["lab-server-1"])
    assert reached == []


def test_without_a_majority_the_data_that_is_left_is_kept(api: Api, reached: list[str]) -> None:
    with pytest.raises(
        OpsError, match=r"lab-server-1, lab-server-3 are gone, .* still on lab-server-2: .*--cluster-reset"
    ):
        servers.see_that_a_majority_is_left(deployment(kubeconfig(api)), ["lab-server-1", "lab-server-3"])
    assert reached == ["https://10.89.0.11:6443"]


def test_a_server_that_was_made_a_cluster_of_its_own_is_joined(api: Api, reached: list[str]) -> None:
    api.objects["/api/v1/namespaces/kube-system"] = {"metadata": {"name": "kube-system"}}
    servers.see_that_a_majority_is_left(deployment(kubeconfig(api)), ["lab-server-1", "lab-server-3"])
    assert reached == ["https://10.89.0.11:6443"]


def test_with_all_of_them_the_cluster_is_lost(api: Api, reached: list[str]) -> None:
    with pytest.raises(OpsError, match="`make down` and `make up` make another one"):
        servers.see_that_a_majority_is_left(deployment(kubeconfig(api)), NAMES)
