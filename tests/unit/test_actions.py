"""Actions as processes: what comes out where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from actions.registry import ACTIONS

WITH_A_CLUSTER = [
    name for name in ACTIONS if name.startswith(("cluster.cl", "cluster.re", "mesh", "workloads", "samples"))
]
WITH_A_CLUSTER.remove("cluster.renumber")


def run(*arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "actions", *arguments]
    return subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=60)


def test_help_names_every_action_and_what_it_does() -> None:
    said = run("--help")
    assert said.returncode == 0
    lines = [line.split(maxsplit=1) for line in said.stdout.partition("actions:\n")[2].splitlines()]
    assert [name for name, _ in lines] == list(ACTIONS)
    assert all(what.endswith(".") for _, what in lines)


def test_an_action_that_there_is_not_is_refused() -> None:
    refused = run("workloads.enter")
    assert refused.returncode == 2
    assert "invalid choice: 'workloads.enter'" in refused.stderr


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_has_its_own_name(name: str) -> None:
    assert ACTIONS[name].name == name


@pytest.mark.parametrize("name", WITH_A_CLUSTER)
def test_missing_and_unknown_keys_are_named_and_no_value_is(name: str) -> None:
    refused = run(name, document={"unknown": "secret-value"})
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "  - kubeconfig: Field required" in refused.stderr
    assert "  - unknown: Extra inputs are not permitted" in refused.stderr
    assert "secret-value" not in refused.stderr


def test_a_failure_is_one_line_for_people_and_not_a_traceback() -> None:
    document = {"kubeconfig": "secret-text", "namespace": "n", "timeout_seconds": 1}
    failed = run("mesh.root-certificate", document=document)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: the kubeconfig cannot be used")
    assert "secret-text" not in failed.stderr


@pytest.mark.parametrize(
    "former", ["machines delete", "cluster leave", "cluster release", "workloads leave", "machines.keys make"]
)
def test_states_of_before_find_their_actions(former: str) -> None:
    module, verb = former.split()
    command = [sys.executable, "-m", f"components.{module}", verb]
    refused = subprocess.run(command, input="[]", capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the document on stdin has 1 error(s):")
