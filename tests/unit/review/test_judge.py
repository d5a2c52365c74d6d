"""`python -m review.judge`: what it reads, what it refuses, what it says and how it exits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actions.protocol import Failure
from review.judge import judge
from review.preview import read
from review.rules.levels import FOLDER, Levels
from review.values import MASKED
from tests.unit.test_settings import ROOT

PEER = "kubernetes:security.istio.io/v1:PeerAuthentication"
MACHINE = "istio-vms:machines:Machine$command:local:Command"


def step(op: str, kind: str, name: str, /, **inputs: Any) -> dict[str, Any]:
    state = {"urn": f"urn:pulumi:prod::istio-vms::{kind}::{name}", "type": kind, "inputs": inputs}
    states = {"oldState": state} if op in ("delete", "delete-replaced") else {"newState": state}
    return {"op": op, "urn": state["urn"], "detailedDiff": None, **states}


def document(*steps: dict[str, Any], **more: Any) -> str:
    return json.dumps({"steps": list(steps), "changeSummary": {"create": len(steps)}, **more})


PERMISSIVE = step("create", PEER, "peer", kind="PeerAuthentication", spec={"mtls": {"mode": "PERMISSIVE"}})
REPLACED = [step(op, MACHINE, "prod-vm-1-machine") for op in ("create-replacement", "replace", "delete-replaced")]


def ran(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "review.judge", *arguments]
    return subprocess.run(command, input=text, text=True, capture_output=True, cwd=ROOT, check=False)


def test_a_mandatory_violation_is_shown_and_fails() -> None:
    done = ran(document(PERMISSIVE, *REPLACED))
    assert done.returncode == 1
    assert "stack prod: violations: 2 mandatory, 0 advisory (8 policies, 2 resources)" in done.stdout
    rows = [line.split()[:3] for line in done.stdout.splitlines()[1:3]]
    assert rows == [["mandatory", "mtls-strict", "peer"], ["mandatory", "protected-machines", "prod-vm-1-machine"]]


def test_no_violation_passes() -> None:
    done = ran(document(step("create", PEER, "peer", kind="PeerAuthentication", spec={"mtls": {"mode": "STRICT"}})))
    assert (done.returncode, done.stdout) == (
        0,
        "stack prod: violations: 0 mandatory, 0 advisory (8 policies, 1 resources)\n",
    )


def test_an_advisory_violation_is_shown_and_passes(tmp_path: Path) -> None:
    config = tmp_path / "levels.json"
    config.write_text('{"all": "advisory", "protected-machines": "disabled"}')
    done = ran(document(PERMISSIVE, *REPLACED), "--config", str(config))
    assert done.returncode == 0
    assert "0 mandatory, 1 advisory" in done.stdout


def test_the_file_of_the_stack_is_used_when_it_has_one() -> None:
    assert (FOLDER / "dev.json").exists()
    of_dev = document(PERMISSIVE).replace("urn:pulumi:prod", "urn:pulumi:dev")
    assert ran(of_dev).returncode == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "this is not what `pulumi preview --json` of Pulumi 3.250.0 prints, the version that is pinned"),
        ("Previewing update", "this is not what"),
        ("[]", "this is not what"),
        (document(), "preview with --show-sames"),
        (document(changeSummary={}), "neither a summary of changes nor an error"),
        (document({"urn": PERMISSIVE["urn"]}), "steps.0.op: Field required"),
        (document({**PERMISSIVE, "op": "levitate"}), "steps.0.op: String should match"),
        (document(PERMISSIVE, changeSummary={"same": 1}), "preview with --show-sames"),
        (document(PERMISSIVE, diagnostics=[{"severity": "error", "message": "no such setting\n"}]), "no such setting"),
    ],
)
def test_what_is_no_whole_preview_is_refused(text: str, why: str) -> None:
    done = ran(text)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr


def test_warnings_are_no_failure() -> None:
    judge(read(document(PERMISSIVE, diagnostics=[{"severity": "warning", "message": "a plugin of PATH"}])), Levels({}))


def test_a_levels_file_that_is_wrong_is_refused(tmp_path: Path) -> None:
    done = ran(document(PERMISSIVE), "--config", str(tmp_path / "nothing.json"))
    assert done.returncode == 2
    assert "nothing.json" in done.stderr


def test_what_goes_is_not_judged_but_its_going_is() -> None:
    gone = [step("delete", MACHINE, "prod-vm-1-machine", create="echo --password hunter2")]
    found = judge(read(document(*gone)), Levels({})).found
    assert [rule.name for _, rule, _ in found] == ["protected-machines"]


def test_a_resource_that_is_replaced_is_judged_once() -> None:
    steps = [step(op, MACHINE, "m", create="x --password hunter2") for op in ("create-replacement", "replace")]
    found = judge(read(document(*steps)), Levels({})).found
    assert [rule.name for _, rule, _ in found] == ["plaintext-secrets"]


def test_secrets_count_as_hidden() -> None:
    parsed = read(document(step("create", MACHINE, "m", stdin=MASKED)))
    assert parsed.resources()[0].secrets_hidden
    assert judge(parsed, Levels({})).found == []


def test_mandatory_comes_first() -> None:
    levels = Levels({"mtls-strict": {"enforcementLevel": "advisory"}})
    found = judge(read(document(PERMISSIVE, *REPLACED)), levels).found
    assert [level for level, _, _ in found] == ["mandatory", "advisory"]


def test_no_preview_at_all_raises() -> None:
    with pytest.raises(Failure):
        read("null")
