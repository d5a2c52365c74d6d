"""`helm.v3.Release`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import Program, children, is_secret, tool, until
from tests.engine.kube_api import KubeApi

Start = Callable[[str], Program]


@pytest.fixture
def program(start: Start, kube_api: KubeApi) -> Program:
    begun = start("kubernetes")
    begun.configure(kubeconfig=kube_api.kubeconfig, provider={"cluster_identifier": "one"})
    return begun


class Helm:
    """The helm command line, to look at releases and to meddle with them."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._where = ["--kubeconfig", str(kubeconfig), "--namespace", namespace]

    def __call__(self, *arguments: str) -> str:
        ran = subprocess.run([tool("helm"), *arguments, *self._where], capture_output=True, text=True, check=True)
        return ran.stdout

    def statuses(self) -> dict[str, str]:
        """Release names to statuses."""
        return {entry["name"]: entry["status"] for entry in json.loads(self("list", "--all", "--output", "json"))}


@pytest.fixture
def helm(kube_api: KubeApi, namespace: str, tmp_path: Path) -> Helm:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kube_api.kubeconfig)
    kubeconfig.chmod(0o600)
    return Helm(kubeconfig, namespace)


def release(namespace: str, *, balanced: bool = False, **inputs: Any) -> dict[str, Any]:
    values = {"values": {"balanced": True}} if balanced else {}
    return {"tiny": {"name": "tiny", "chart": "./chart", "namespace": namespace, "timeout": 60, **values, **inputs}}


def test_life_of_a_release(program: Program, kube_api: KubeApi, helm: Helm, namespace: str) -> None:
    program.configure(secret="dark matter", releases=release(namespace))
    assert not program.up().failed
    data = kube_api.core.read_namespaced_config_map("tiny", namespace).data
    assert data == {"text": "dark matter", "upgrade": "false"}
    outputs = program.resources()["tiny"]["outputs"]
    assert (
        outputs["status"] | {"status": "deployed", "revision": 1, "version": "1.0.0", "appVersion": "2.0"}
        == outputs["status"]
    )
    assert outputs["resourceNames"] == {"ConfigMap/v1": [f"{namespace}/tiny"]}
    assert is_secret(outputs["values"]["text"]) or is_secret(outputs["values"])
    assert program.up().steps == {}
    program.refresh()
    assert program.up().steps == {}
    program.configure(secret="bright matter")
    assert program.up().steps == {"tiny": "update"}
    data = kube_api.core.read_namespaced_config_map("tiny", namespace).data
    assert data == {"text": "bright matter", "upgrade": "true"}
    assert program.resources()["tiny"]["outputs"]["status"]["revision"] == 2
    assert not program.destroy().failed
    assert helm.statuses() == {}


def test_a_new_chart_version_is_an_upgrade(program: Program, namespace: str) -> None:
    program.configure(releases=release(namespace))
    program.up()
    chart = program.folder / "chart" / "Chart.yaml"
    chart.write_text(chart.read_text().replace("version: 1.0.0", "version: 1.1.0"))
    assert program.up().steps == {"tiny": "update"}
    assert program.resources()["tiny"]["outputs"]["version"] == "1.1.0"


def test_a_missing_chart_is_an_error(program: Program, namespace: str) -> None:
    program.configure(releases=release(namespace) | {"lost": {"chart": "./nowhere", "namespace": namespace}})
    outcome = program.preview()
    assert outcome.failed
    assert "chart" in outcome.said


def test_another_name_is_another_release(program: Program, helm: Helm, namespace: str) -> None:
    program.configure(releases=release(namespace))
    program.up()
    program.configure(releases=release(namespace, name="other"))
    assert "replace" in program.up().steps["tiny"]
    assert helm.statuses() == {"other": "deployed"}


def test_a_release_that_does_not_get_ready_is_recorded_and_finished_later(
    program: Program, kube_api: KubeApi, helm: Helm, namespace: str
) -> None:
    program.configure(releases=release(namespace, balanced=True, timeout=3))
    outcome = program.up()
    assert outcome.failed
    assert "tiny" in program.resources()
    assert helm.statuses() == {"tiny": "failed"}
    _give_address(kube_api, namespace)
    assert program.up().steps == {"tiny": "update"}
    assert helm.statuses() == {"tiny": "deployed"}


def test_a_release_of_someone_else_is_an_error(program: Program, helm: Helm, namespace: str) -> None:
    helm("install", "tiny", str(program.folder / "chart"))
    program.configure(releases=release(namespace))
    outcome = program.up()
    assert outcome.failed
    assert "cannot re-use a name that is still in use" in outcome.said
    assert "tiny" not in program.resources()


def test_a_release_that_was_removed_comes_back_after_refresh(program: Program, helm: Helm, namespace: str) -> None:
    program.configure(releases=release(namespace))
    program.up()
    helm("uninstall", "tiny")
    program.refresh()
    assert program.up().steps == {"tiny": "create"}
    assert helm.statuses() == {"tiny": "deployed"}


@pytest.mark.stand_in
def test_an_install_that_was_killed_is_repaired(
    program: Program, kube_api: KubeApi, helm: Helm, namespace: str
) -> None:
    program.configure(releases=release(namespace, balanced=True))
    _kill_while(program, helm, "pending-install")
    assert "tiny" not in program.resources()
    program.stack.cancel()
    program.configure(releases=release(namespace))
    assert not program.up().failed
    assert helm.statuses() == {"tiny": "deployed"}


@pytest.mark.stand_in
def test_an_upgrade_that_was_killed_is_repaired(
    program: Program, kube_api: KubeApi, helm: Helm, namespace: str
) -> None:
    program.configure(releases=release(namespace))
    program.up()
    program.configure(releases=release(namespace, balanced=True))
    _kill_while(program, helm, "pending-upgrade")
    program.stack.cancel()
    program.configure(releases=release(namespace, values={"text": "after"}))
    assert not program.up().failed
    assert helm.statuses() == {"tiny": "deployed"}
    assert kube_api.core.read_namespaced_config_map("tiny", namespace).data["text"] == "after"


@pytest.mark.stand_in
def test_a_release_that_was_made_but_not_recorded_is_adopted(
    program: Program, helm: Helm, namespace: str, tmp_path: Path
) -> None:
    program.configure(releases=release(namespace))
    shutil.copytree(tmp_path / "state", tmp_path / "before")
    program.up()
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "before", tmp_path / "state")
    assert program.up().steps["tiny"] == "create"
    assert helm.statuses() == {"tiny": "deployed"}


@pytest.mark.stand_in
def test_neither_values_nor_kubeconfig_are_in_arguments_or_files(
    program: Program, helm: Helm, kube_api: KubeApi, namespace: str
) -> None:
    key = kube_api.kubeconfig.split("client-key-data: ")[1].split()[0]
    program.configure(secret="dark matter", releases=release(namespace, balanced=True, timeout=20))
    with program.running("up", "--yes", "--skip-preview") as engine:
        until(lambda: bool(helm.statuses()), 60, "the release")
        # It waits for the load balancer now, so it stays long enough to be looked at.
        (installing,) = (pid for pid in children(engine.pid) if _name(pid) == "helm")
        shown = Path(f"/proc/{installing}/cmdline").read_text() + Path(f"/proc/{installing}/environ").read_text()
        engine.wait(60)
    assert "install" in shown
    assert "dark matter" not in shown
    assert key not in shown
    assert "/proc/self/fd/" in shown


def _kill_while(program: Program, helm: Helm, status: str) -> None:
    """Kill the engine, the plugin and helm when the release is in `status`: as when the machine loses power."""
    with program.running("up", "--yes", "--skip-preview") as engine:
        until(lambda: helm.statuses().get("tiny") == status, 60, status)
        for process in [engine.pid, *children(engine.pid)]:
            os.kill(process, signal.SIGKILL)
    assert helm.statuses()["tiny"] == status


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


def _give_address(kube_api: KubeApi, namespace: str) -> None:
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    kube_api.core.patch_namespaced_service_status("tiny", namespace, ingress)
