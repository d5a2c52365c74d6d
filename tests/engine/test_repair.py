"""Repair with the real engine and a real Kubernetes API: runs that are killed, and objects that someone deleted or changed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actions.kube import ApiCluster
from ops import workspace
from ops.objects import RUNS, compare
from ops.repair import repair
from ops.workspace import Stack
from tests.engine.harness import Program, children, until
from tests.engine.kube_api import KubeApi

Start = Callable[[str], Program]
Repair = Callable[[], None]
PROVIDER = {"cluster_identifier": "one", "upsert_existing_objects": True}


@pytest.fixture
def program(start: Start, kube_api: KubeApi) -> Program:
    begun = start("kubernetes")
    begun.configure(kubeconfig=kube_api.kubeconfig, provider=PROVIDER)
    return begun


@pytest.fixture
def stack(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The program's stack as `make up` would work on it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(workspace, "ROOT", program.folder)
    made = Stack("test", {**os.environ, **program.env})
    made.folder.mkdir(parents=True)
    return made


def door(namespace: str, *, awaited: bool = True, **labels: str) -> dict[str, Any]:
    """A Service that never gets ready here, as there are no load balancers; unless nobody waits."""
    metadata = {"name": "door", "namespace": namespace, "labels": {"owner": "program", **labels}}
    if not awaited:
        metadata["annotations"] = {"pulumi.com/skipAwait": "true"}
    spec = {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]}
    return {"door": ["Service", {"metadata": metadata, "spec": spec}]}


def robot(namespace: str, **labels: str) -> dict[str, Any]:
    return {"robot": ["ServiceAccount", {"metadata": {"name": "robot", "namespace": namespace, "labels": labels}}]}


def kill(program: Program, when: Callable[[], bool]) -> None:
    """Kill the engine and its plugins in an `up`, as when the machine loses power."""
    with program.running("up", "--yes", "--skip-preview") as engine:
        until(when, 90, "what it was to be killed at")
        for process in [engine.pid, *children(engine.pid)]:
            os.kill(process, signal.SIGKILL)


def owners(found: Any) -> set[str]:
    """The field managers by which Pulumi owns something of an object."""
    return {entry.manager for entry in found.metadata.managed_fields if entry.manager.startswith(RUNS)}


def killed_while_the_door_is_made(program: Program, kube_api: KubeApi, namespace: str, times: int = 1) -> None:
    """The run that makes it for the first or a further time is killed before the engine has noted it."""

    def made() -> bool:
        read = kube_api.core.read_namespaced_service
        return kube_api.exists(read, "door", namespace) and len(owners(read("door", namespace))) == times

    program.configure(objects=door(namespace))
    kill(program, made)
    assert "door" not in program.resources()


def test_what_a_killed_run_made_goes_when_the_settings_are_taken_back(
    program: Program, stack: Stack, kube_api: KubeApi, namespace: str
) -> None:
    killed_while_the_door_is_made(program, kube_api, namespace)
    program.configure(objects={})
    repair(stack)
    assert program.up().steps == {"door": "delete"}
    assert not kube_api.exists(kube_api.core.read_namespaced_service, "door", namespace)


def test_what_a_killed_run_made_is_changed_by_the_next(
    program: Program, stack: Stack, kube_api: KubeApi, namespace: str
) -> None:
    """The run is killed twice, so that a field manager of a run before the last is there, too."""
    killed_while_the_door_is_made(program, kube_api, namespace)
    _forget_pending(program, stack)
    killed_while_the_door_is_made(program, kube_api, namespace, times=2)
    made = kube_api.core.read_namespaced_service("door", namespace)
    program.configure(objects=door(namespace, awaited=False, owner="changed"))
    repair(stack)
    outcome = program.up()
    assert not outcome.failed, outcome.said
    assert outcome.steps == {"door": "update"}
    changed = kube_api.core.read_namespaced_service("door", namespace)
    assert (changed.metadata.uid, changed.metadata.labels) == (made.metadata.uid, {"owner": "changed"})
    assert len(owners(changed)) == 1
    assert owners(changed) == {program.resources()["door"]["outputs"]["__fieldManager"]}
    assert program.up().steps == {}


def test_a_change_that_was_cut_off_is_taken_back(
    program: Program, stack: Stack, kube_api: KubeApi, namespace: str
) -> None:
    program.configure(objects=door(namespace, awaited=False))
    program.up()
    program.configure(objects=door(namespace, more="yes"))
    read = kube_api.core.read_namespaced_service
    kill(program, lambda: "more" in read("door", namespace).metadata.labels)
    program.configure(objects=door(namespace, awaited=False))
    repair(stack)
    assert not program.up().failed
    assert read("door", namespace).metadata.labels == {"owner": "program"}
    assert program.up().steps == {}


def test_what_was_deleted_by_hand_is_made_again(
    program: Program, stack: Stack, kube_api: KubeApi, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = robot(namespace, a="1") | door(namespace, awaited=False)
    program.configure(objects=objects)
    program.up()
    kube_api.core.delete_namespaced_service_account("robot", namespace)
    assert program.up().steps == {}, "Pulumi does not look"
    repair(stack)
    assert f"ServiceAccount {namespace}/robot is gone" in capsys.readouterr().out
    assert program.up().steps == {"robot": "create"}, "the door, which depends on it, stays"
    assert kube_api.exists(kube_api.core.read_namespaced_service_account, "robot", namespace)
    repair(stack)
    assert capsys.readouterr().out == ""
    assert program.up().steps == {}


def test_what_was_changed_by_hand_is_put_back(
    program: Program, stack: Stack, kube_api: KubeApi, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program.configure(objects=robot(namespace, owner="program"))
    program.up()
    by_hand = {"metadata": {"labels": {"owner": "hand", "other": "kept"}}}
    kube_api.core.patch_namespaced_service_account("robot", namespace, by_hand)
    repair(stack)
    assert "was changed (metadata.labels.owner); it is put back" in capsys.readouterr().out
    found = kube_api.core.read_namespaced_service_account("robot", namespace)
    assert found.metadata.labels == {"owner": "program", "other": "kept"}
    assert program.up().steps == {}
    # What was put back belongs to the provider again: the next change is no conflict.
    program.configure(objects=robot(namespace, owner="changed"))
    assert program.up().steps == {"robot": "update"}


def test_field_managers_of_runs_that_died_long_ago_own_nothing(
    program: Program, stack: Stack, kube_api: KubeApi, namespace: str
) -> None:
    program.configure(objects=robot(namespace, owner="program"))
    program.up()
    account = robot(namespace, owner="program", old="yes")["robot"][1]
    dead = {"apiVersion": "v1", "kind": "ServiceAccount", **account}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/robot"
    ApiCluster(kube_api.kubeconfig).apply(path, dead, f"{RUNS}dead")
    program.configure(objects=robot(namespace, owner="changed"))
    assert "conflict" in program.up().said
    repair(stack)
    assert program.up().steps == {"robot": "update"}
    found = kube_api.core.read_namespaced_service_account("robot", namespace)
    assert found.metadata.labels == {"owner": "changed"}
    assert len(owners(found)) == 1


def test_comparing_finds_nothing_where_nothing_was_changed(
    program: Program, stack: Stack, kube_api: KubeApi, namespace: str
) -> None:
    """However the server spells quantities, ports and what is left out."""
    limits = {"cpu": 1.5, "memory": "1024Mi"}
    probe = {"httpGet": {"path": "/", "port": 8080}}
    container = {
        "name": "web", "image": "web:1", "resources": {"limits": limits, "requests": {"cpu": "1000m"}},
        "ports": [{"containerPort": 8080}], "readinessProbe": probe, "env": [{"name": "A", "value": ""}], "command": [],
    }  # fmt: skip
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels, "annotations": {}}, "spec": {"containers": [container]}}
    metadata = {"name": "web", "namespace": namespace, "annotations": {"pulumi.com/skipAwait": "true"}}
    data = {"metadata": {"name": "s", "namespace": namespace}, "string_data": {"word": "open sesame"}}
    program.configure(
        objects={
            "web": [
                "Deployment",
                {"metadata": metadata, "spec": {"selector": {"matchLabels": labels}, "template": pod}},
            ],
            "secret": ["Secret", data],
            **door(namespace, awaited=False),
            **robot(namespace),
        }
    )
    outcome = program.up()
    assert not outcome.failed, outcome.said
    found = compare(stack.deployment(), ApiCluster(kube_api.kubeconfig))
    assert not found
    assert not found.shared


def _forget_pending(program: Program, stack: Stack) -> None:
    """What versions did that did not look at the world."""
    program.stack.cancel()
    document = json.loads(stack.pulumi("stack", "export", "--stack", "test"))
    document["deployment"]["pending_operations"] = []
    file = program.folder / "state.json"
    file.write_text(json.dumps(document))
    stack.pulumi("stack", "import", "--stack", "test", "--file", str(file))
