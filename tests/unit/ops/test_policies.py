"""Policies around an operation: which way they are judged, what stops an update, what is shown, what Pulumi is told."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from actions.protocol import Failure
from commands import __main__ as cli
from ops import engine, policies
from ops.errors import OpsError
from ops.event_log import EventLog
from ops.workspace import Stack
from review.rules import levels
from tests.unit.ops.conftest import World, urn

MACHINE = urn("istio-vms:machines:Machine$command:local:Command", "lab-vm-1-machine")
PEER = urn("kubernetes:security.istio.io/v1:PeerAuthentication", "peer")


@pytest.fixture(autouse=True)
def stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Levels of the test's own; without a file the default ones."""
    folder = tmp_path / "levels"
    folder.mkdir()
    monkeypatch.setattr(levels, "FOLDER", folder)
    monkeypatch.setattr(policies, "ROOT", tmp_path / "project")
    return folder


def advised(stacks: Path, **more: Any) -> Path:
    file = stacks / "lab.json"
    file.write_text(json.dumps({"all": "advisory", **more}))
    return file


def violation(level: str = "mandatory") -> dict[str, Any]:
    message = "Every PeerAuthentication asks for STRICT.\nspec.mtls.mode is PERMISSIVE: say STRICT\n"
    return {
        "policyEvent": {
            "resourceUrn": PEER,
            "message": message,
            "policyName": "mtls-strict",
            "enforcementLevel": level,
        }
    }


def step(op: str, of: str = MACHINE) -> dict[str, Any]:
    return {"resourcePreEvent": {"metadata": {"op": op, "urn": of}}}


SUMMARY = {"summaryEvent": {"resourceChanges": {"same": 3, "create": 2, "delete": 1}}}


def logs(world: World, verb: str, *events: dict[str, Any], code: int = 0) -> None:
    world.put(f"{verb}.events", "\n".join(map(json.dumps, [*events, SUMMARY])))
    world.put(f"{verb}.code", str(code))


def without_analyzer(world: World) -> None:
    (world.bin / "pulumi-language-python-host").unlink()


def test_the_engine_is_told_the_pack_and_the_levels_of_the_stack(stack: Stack, stacks: Path) -> None:
    pack = ["--policy-pack", str(policies.PACK), "--policy-pack-config"]
    assert policies.flags(stack) == [*pack, str(levels.DEFAULT)]
    own = advised(stacks)
    assert policies.flags(stack) == [*pack, str(own)]


def test_a_levels_file_that_is_wrong_is_refused_before_the_engine_is_asked(stack: Stack, stacks: Path) -> None:
    (stacks / "lab.json").write_text('{"mtls": "advisory"}')
    with pytest.raises(Failure, match="mtls is no policy"):
        policies.flags(stack)


def test_a_host_of_ours_without_the_shim_runs_no_pack(world: World, stack: Stack) -> None:
    assert policies.not_in_engine(stack.env) == ""
    without_analyzer(world)
    assert "too old" in policies.not_in_engine(stack.env)
    assert policies.flags(stack) == []
    (world.bin / "receipt.json").write_text('{\n "source": "official"\n}')
    assert policies.not_in_engine(stack.env) == ""


def test_a_host_of_a_release_elsewhere_runs_packs(world: World, tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    (world.bin / "pulumi-language-python").rename(release / "pulumi-language-python")
    assert policies.not_in_engine({"PATH": str(release)}) == ""
    assert "there is no pulumi-language-python" in policies.not_in_engine({"PATH": str(world.bin)})


def test_a_mandatory_violation_stops_before_anything_is_made(
    world: World, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    logs(world, "preview", violation(), code=255)
    with pytest.raises(OpsError, match=r"^1 violation\(s\) of mandatory policies, see above; nothing was changed"):
        policies.before_up(stack)
    shown = capsys.readouterr().out
    assert "mandatory  mtls-strict  peer      spec.mtls.mode is PERMISSIVE: say STRICT" in shown
    assert "1 mandatory, 0 advisory (8 policies, 5 resources)" in shown
    assert world.calls("up") == []


@pytest.mark.parametrize("op", ["delete", "replace"])
def test_what_ends_a_machine_is_judged_by_the_engines_steps(world: World, stack: Stack, op: str) -> None:
    logs(world, "preview", step("same", PEER), step(op))
    judged = policies.judged_preview(stack)
    assert [(level, rule.name, one.urn) for level, rule, one in judged.found] == [
        ("mandatory", "protected-machines", MACHINE)
    ]


def test_a_policy_that_is_disabled_judges_no_step(world: World, stack: Stack, stacks: Path) -> None:
    advised(stacks, **{"protected-machines": "disabled"})
    logs(world, "preview", step("delete"))
    assert policies.judged_preview(stack).found == []


def test_where_nothing_is_mandatory_no_preview_is_waited_for(world: World, stack: Stack, stacks: Path) -> None:
    advised(stacks)
    policies.before_up(stack)
    assert world.calls("preview") == []


def test_one_mandatory_policy_is_enough_for_a_preview(world: World, stack: Stack, stacks: Path) -> None:
    advised(stacks, **{"mtls-strict": "mandatory"})
    policies.before_up(stack)
    assert len(world.calls("preview")) == 1


def test_a_preview_that_fails_for_another_reason_says_which(world: World, stack: Stack) -> None:
    error = {"diagnosticEvent": {"severity": "error", "urn": PEER, "message": "error: no such field\n"}}
    logs(world, "preview", error, violation("advisory"), code=255)
    with pytest.raises(OpsError, match=r"^the preview failed: peer: no such field"):
        policies.judged_preview(stack)


def test_a_preview_that_was_shown_adds_what_goes(
    world: World, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    logs(world, "preview", violation("advisory"), step("delete"))
    with EventLog() as log:
        engine.operate(stack, "preview", *policies.flags(stack), log=log)
        capsys.readouterr()
        with pytest.raises(OpsError, match="1 violation"):
            policies.after_preview(stack, log)
    shown = capsys.readouterr().out
    assert "lab-vm-1-machine" in shown and "mtls-strict" not in shown, "the engine has shown the pack's violations"


def test_an_update_that_the_pack_stops_names_policy_and_resource(world: World, stack: Stack) -> None:
    logs(world, "up", violation(), code=255)
    with pytest.raises(OpsError, match=r"policy mtls-strict: peer: spec.mtls.mode is PERMISSIVE"):
        engine.operate(stack, "up", *policies.flags(stack))


def test_an_advisory_violation_is_no_reason_to_fail(world: World, stack: Stack) -> None:
    logs(world, "up", violation("advisory"), code=255)
    with pytest.raises(OpsError) as failed:
        engine.operate(stack, "up")
    assert "mtls-strict" not in str(failed.value)


def test_without_an_analyzer_the_previews_json_is_judged_and_that_is_said(
    world: World, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    without_analyzer(world)
    state = {"urn": PEER, "inputs": {"kind": "PeerAuthentication", "spec": {"mtls": {"mode": "PERMISSIVE"}}}}
    steps = [{"op": "create", "urn": PEER, "newState": state, "detailedDiff": None}]
    world.put("preview.out", {"steps": steps, "changeSummary": {"create": 1}})
    with pytest.raises(OpsError, match="1 violation"):
        policies.before_up(stack)
    shown = capsys.readouterr().out
    assert shown.startswith("policies: over the preview's JSON, not in the engine: ")
    assert "mandatory  mtls-strict  peer" in shown
    (call,) = world.calls("preview")
    assert {"--json", "--show-sames"} <= set(call["words"])
    assert "--policy-pack" not in call["words"]


def run(monkeypatch: pytest.MonkeyPatch, verb: str) -> int:
    monkeypatch.setattr(sys, "argv", ["istio-vms", verb])
    return cli.main()


def test_up_makes_nothing_where_a_policy_forbids_it(
    world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs(world, "preview", violation(), code=255)
    assert run(monkeypatch, "up") == 1
    assert "nothing was changed" in capsys.readouterr().err
    assert world.calls("up") == []


@pytest.mark.parametrize("verb", ["preview", "policy"])
def test_preview_and_policy_fail_for_a_machine_that_would_go(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    logs(world, "preview", step("delete"))
    assert run(monkeypatch, verb) == 1
    assert "machine lab-vm-1 would be deleted" in capsys.readouterr().out
    (call,) = world.calls("preview")
    assert "--policy-pack" in call["words"]


@pytest.mark.parametrize(("verb", "said"), [("preview", 0), ("policy", 1)])
def test_only_policy_speaks_of_a_stack_that_violates_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, said: int
) -> None:
    logs(world, "preview")
    assert run(monkeypatch, verb) == 0
    assert capsys.readouterr().out.count("0 mandatory, 0 advisory") == said
