"""Our command lines as processes: what comes out where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(module: str, *arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("module", "verbs"),
    [
        ("components.workloads", ["join", "leave"]),
        ("components.samples", ["prove"]),
        ("components.mesh", ["gateway-addresses", "root-certificate", "mesh-config"]),
    ],
)
def test_every_verb_names_its_missing_and_unknown_keys(module: str, verbs: list[str]) -> None:
    usage = run(module)
    assert usage.returncode == 2
    assert "|".join(verbs) in usage.stderr
    for verb in verbs:
        refused = run(module, verb, document={"unknown": "secret-value"})
        assert refused.returncode == 1
        assert refused.stdout == ""
        assert "  - kubeconfig: Field required" in refused.stderr
        assert "  - unknown: Extra inputs are not permitted" in refused.stderr
        assert "secret-value" not in refused.stderr


def test_a_failure_is_one_line_for_people_and_not_a_traceback() -> None:
    document = {"kubeconfig": "secret-text", "namespace": "n", "timeout_seconds": 1}
    failed = run("components.mesh", "root-certificate", document=document)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: the kubeconfig cannot be used")
    assert "secret-text" not in failed.stderr
