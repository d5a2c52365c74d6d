"""The policy pack in the real engine, by what `make policy`, `make preview` and `make up` run: what each policy lets pass and what it does
not, how seriously a stack takes it, and machines that an update would end."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ops import engine, policies, workspace
from ops.errors import OpsError
from ops.workspace import Stack
from review.rules import RULES, levels
from tests.engine.harness import PROGRAMS, tool

Open = Callable[..., Stack]
EXPOSED = {"east-west-exposure": {"exposed": ["sample/helloworld"]}}
EVERYTHING: dict[str, object] = {}
"""Levels by which everything is mandatory."""
KNOWN_MACHINE = {"protected-machines": {"machines": ["prod-vm-*", "prod-vm-1"]}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of tests/engine/programs/policy as the project, with state and levels of its own."""
    tool("pulumi")
    project = tmp_path / "project"
    shutil.copytree(PROGRAMS / "policy", project)
    (tmp_path / "levels").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_HOME"):
        monkeypatch.delenv(name, raising=False)
    for module in (workspace, engine, policies):
        monkeypatch.setattr(module, "ROOT", project)
    monkeypatch.setattr(levels, "FOLDER", tmp_path / "levels")
    return project


@pytest.fixture
def stack(project: Path, tmp_path: Path) -> Open:
    """Opens the stack with the program's case, and with levels in its file if any are given."""

    def begin(name: str, case: str, given: object = None) -> Stack:
        (project / f"Pulumi.{name}.yaml").write_text(f"config:\n  istio-vms:case: {case}\n")
        if given is not None:
            (tmp_path / "levels" / f"{name}.json").write_text(json.dumps(given))
        opened = Stack.open(name)
        assert policies.not_in_engine(opened.env) == ""
        return opened

    return begin


def violated(judged: policies.Judged) -> dict[str, list[str]]:
    """The names of resources by the policy that they violate."""
    found: dict[str, list[str]] = {}
    for _, rule, violation in judged.found:
        found.setdefault(rule.name, []).append(violation.urn.rpartition("::")[2])
    return found


def started_with(state: Path) -> list[str]:
    """The command lines of processes that have this folder of state in their environment."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is over by now
            if str(state).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


def test_what_keeps_every_policy_passes_and_no_process_stays(stack: Open, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "STATE": str(tmp_path / "state")}) as other:
        assert started_with(tmp_path / "state") == ["sleep\0" + "60\0"]
        other.kill()
    judged = policies.judged_preview(stack("prod", "keeps", {**EXPOSED, **KNOWN_MACHINE}))
    assert judged.found == []
    assert judged.resources > len(RULES)
    assert not [line for line in started_with(tmp_path / "state") if str(policies.PACK) in line]


def test_each_policy_is_violated_by_what_breaks_it(stack: Open, capsys: pytest.CaptureFixture[str]) -> None:
    prod = stack("prod", "breaks", EVERYTHING)
    judged = policies.judged_preview(prod)
    assert violated(judged) == {rule.name: [rule.name] for rule in RULES if rule.resource}
    assert {level for level, _, _ in judged.found} == {"mandatory"}
    with pytest.raises(OpsError, match=f"^{judged.stops} violation"):
        policies.tell(prod, judged)
    shown = capsys.readouterr().out
    assert "mandatory  plaintext-secrets" in shown and "make it a secret" in shown
    assert "hunter2" not in shown


def test_without_the_pack_the_previews_json_is_judged_by_the_same_functions(
    stack: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prod = stack("prod", "breaks", EVERYTHING)
    monkeypatch.setattr(policies, "not_in_engine", lambda _: "this test says so")
    with pytest.raises(OpsError, match="violation"):
        policies.before_up(prod)
    shown = capsys.readouterr().out
    assert shown.startswith("policies: over the preview's JSON, not in the engine: this test says so\n")
    named = {line.split()[1] for line in shown.splitlines() if line.startswith("mandatory")}
    hidden = {"pinned-host-keys"}  # a connection is a secret as a whole
    assert named == {rule.name for rule in RULES if rule.resource} - hidden


def test_a_stack_as_a_whole_is_judged(stack: Open) -> None:
    judged = policies.judged_preview(stack("prod", "breaks as a whole", KNOWN_MACHINE))
    assert set(violated(judged)) == {rule.name for rule in RULES if rule.stack}
    assert any("machine prod-vm-1 is not in the stack" in violation.message for _, _, violation in judged.found)


def test_the_same_violation_warns_in_dev_and_stops_prod(stack: Open, capfd: pytest.CaptureFixture[str]) -> None:
    dev = stack("dev", "a secret", {"all": "advisory"})
    policies.before_up(dev)
    engine.operate(dev, "up", "--yes", "--skip-preview", *policies.flags(dev))
    shown = capfd.readouterr().out
    assert "plaintext-secrets" in shown and "[advisory]" in shown and "leak" in shown

    prod = stack("prod", "a secret")
    with pytest.raises(OpsError, match="nothing was changed"):
        policies.before_up(prod)
    assert not prod.deployment().get("resources")
    # What is known only as the update goes on stops it there.
    with pytest.raises(OpsError, match=r"^policy plaintext-secrets: leak: .*in plain text"):
        engine.operate(prod, "up", "--yes", "--skip-preview", *policies.flags(prod))
    made = [one["urn"].rpartition("::")[2] for one in prod.deployment().get("resources") or []]
    assert "leak" not in made


def test_a_machine_that_would_end_is_caught(stack: Open, project: Path) -> None:
    prod = stack("prod", "machines")
    policies.before_up(prod)
    engine.operate(prod, "up", "--yes", "--skip-preview", *policies.flags(prod))

    prod = stack("prod", "changed machines")
    judged = policies.judged_preview(prod)
    assert [(rule.name, level) for level, rule, _ in judged.found] == [("protected-machines", "mandatory")] * 2
    said = sorted(violation.message.partition(":")[0] for _, _, violation in judged.found)
    assert said == ["machine vm-2 would be replaced", "machine vm-3 would be deleted"]
    with pytest.raises(OpsError, match="nothing was changed"):
        policies.before_up(prod)
