"""`istio-vms pull-request`, with Pulumi standing in for itself."""

import io
import json
import sys
from pathlib import Path

import pytest

from commands import __main__ as cli
from tests.unit.ops.conftest import World, hurry, world
from tests.unit.review.conftest import PREVIEWS

__all__ = ["hurry", "world"]


def run(monkeypatch: pytest.MonkeyPatch, *words: str, stdin: str = "") -> int:
    monkeypatch.setattr(sys, "argv", ["istio-vms", "pull-request", *words])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    return cli.main()


@pytest.fixture
def previews(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world with a pulumi on PATH."""
    monkeypatch.setenv("PATH", f"{world.bin}:/usr/bin:/bin")
    monkeypatch.setenv("STACK", "lab")
    return world


def put(world: World, name: str) -> None:
    world.put("preview.out", (PREVIEWS / f"{name}.json").read_text())


def test_comment_renders_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "comment", "--stack", "dev", stdin=(PREVIEWS / "add-vm.json").read_text()) == 0
    assert capsys.readouterr().out.startswith("<!-- istio-vms preview: dev -->\n### Stack `dev`: 1 to replace, ")


def test_comment_of_something_else_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "comment", "--stack", "dev", stdin="{") == 1
    said = capsys.readouterr()
    known = "error: this is not what `pulumi preview --json` of Pulumi 3.250.0 prints, the version that is pinned:\n"
    assert (said.out, said.err.startswith(known)) == ("", True)


def test_a_stack_cannot_end_the_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "comment", "--stack", "x --> y") == 2


def test_preview_asks_pulumi_for_json_and_prints_the_comment(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(previews, "resize")
    assert run(monkeypatch, "preview") == 0
    (call,) = previews.calls("preview")
    config = str(previews.home / "stacks/lab/Pulumi.lab.yaml")
    assert call["words"][:6] == ["preview", "--stack", "lab", "--config-file", config, "--json"]
    assert "--refresh" not in call["words"]
    assert call["cwd"] == str(previews.project)
    assert capsys.readouterr().out.startswith(
        "<!-- istio-vms preview: lab -->\n### Stack `lab`: 1 to replace, 1 to update, 2 may change"
    )
    assert previews.tools() == [["install", "--quiet", "pulumi"]]


def test_drift_refreshes_and_expects_nothing(
    previews: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(previews, "drift")
    previews.put("preview.code", "7")
    monkeypatch.setenv("ARGS", f"--drift --output '{tmp_path / 'a comment.md'}'")
    assert run(monkeypatch, "preview") == 1
    assert {"--refresh", "--expect-no-changes"} <= set(previews.calls("preview")[0]["words"])
    assert (
        (tmp_path / "a comment.md").read_text().startswith("<!-- istio-vms drift: lab -->\n### Stack `lab` has drifted")
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "code"), [("no-change", "0"), ("new-stack", "7")])
def test_no_drift_and_nothing_to_drift_are_well(
    name: str, code: str, previews: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(previews, name)
    previews.put("preview.code", code)
    assert run(monkeypatch, "preview", "--drift") == 0


def test_a_new_stack_that_fails_is_not_well(previews: World, monkeypatch: pytest.MonkeyPatch) -> None:
    new = json.loads((PREVIEWS / "new-stack.json").read_text())
    previews.put("preview.out", {**new, "diagnostics": [{"severity": "error", "message": "error: no"}]})
    previews.put("preview.code", "1")
    assert run(monkeypatch, "preview", "--drift") == 1


@pytest.mark.parametrize("drift", [[], ["--drift"]])
def test_a_failed_preview_is_a_comment_and_an_exit_code(
    drift: list[str], previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(previews, "wrong-settings")
    previews.put("preview.code", "1")
    assert run(monkeypatch, "preview", *drift) == 1
    said = capsys.readouterr().out
    assert "could not be" in said
    assert "should be a k3s release" in said


def test_a_failure_that_the_preview_does_not_tell_is_told(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(previews, "add-vm")
    previews.put("preview.code", "1")
    assert run(monkeypatch, "preview") == 1
    said = capsys.readouterr().out
    assert "### Stack `lab` could not be previewed" in said
    assert "no reason given" in said
    assert "| create |" in said, "what was seen is shown all the same"


@pytest.mark.parametrize(
    ("printed", "reason"),
    [("", "no reason given"), ("Previewing", "this is not what `pulumi preview --json` of Pulumi 3.250.0 prints")],
)
def test_a_preview_that_prints_no_preview_is_a_comment_as_well(
    printed: str, reason: str, previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    previews.put("preview.out", printed)
    assert run(monkeypatch, "preview") == 1
    assert reason in capsys.readouterr().out


def test_a_back_end_that_cannot_be_reached_is_a_comment(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    previews.put("refuses", "")
    assert run(monkeypatch, "preview") == 1
    assert "the back end cannot be reached" in capsys.readouterr().out


def test_a_stack_file_that_is_no_yaml_is_a_comment(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (previews.project / "Pulumi.lab.yaml").write_text("config: {\n")
    assert run(monkeypatch, "stacks", stdin="Pulumi.lab.yaml\n") == 0
    assert capsys.readouterr().out.split() == ["lab"]
    assert run(monkeypatch, "preview") == 1
    assert "could not be previewed" in capsys.readouterr().out


def test_an_unknown_stack_is_an_error(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACK", "nope")
    assert run(monkeypatch, "preview") == 1
    assert capsys.readouterr().err.startswith("error: STACK=nope: there is no Pulumi.nope.yaml")


def test_stacks_reads_files_and_prints_names(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.project / "Pulumi.dev.yaml").write_text("config: {istio-vms:machines: {driver: multipass}}")
    (world.project / "Pulumi.bare.yaml").write_text("")
    assert run(monkeypatch, "stacks", stdin="docs/a.md\nlab/rootfs.py\nPulumi.dev.yaml\n") == 0
    assert capsys.readouterr().out.split() == ["dev", "lab", "lab-two"]
    assert run(monkeypatch, "stacks", "--json", stdin="lab/rootfs.py\n") == 0
    assert json.loads(capsys.readouterr().out) == ["lab", "lab-two"]
    assert run(monkeypatch, "stacks", "--json", stdin="docs/a.md\n") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(monkeypatch, "stacks", "--of", '["lab", "gone"]', stdin="Makefile\n") == 0
    assert capsys.readouterr().out.split() == ["lab"]


def violation(level: str) -> str:
    return json.dumps(
        {
            "policyEvent": {
                "resourceUrn": "urn:pulumi:lab::istio-vms::kubernetes:core/v1:Secret::keys",
                "message": "What holds.\ndata.key has a value of a Secret in plain text: make it a secret\n",
                "policyName": "plaintext-secrets",
                "enforcementLevel": level,
            }
        }
    )


GOES = json.dumps(
    {
        "resourcePreEvent": {
            "metadata": {
                "op": "delete",
                "urn": "urn:pulumi:lab::istio-vms::istio-vms:machines:Machine$command:local:Command::lab-vm-1-machine",
            }
        }
    }
)


def test_a_mandatory_violation_heads_the_comment(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(previews, "add-vm")
    previews.put("preview.code", "255")
    previews.put("preview.events", violation("mandatory"))
    assert run(monkeypatch, "preview") == 1
    said = capsys.readouterr().out
    assert "### Stack `lab` violates mandatory policies" in said
    assert "keys: policy plaintext-secrets: data.key has a value of a Secret in plain text: make it a secret" in said
    assert "What holds" not in said
    (call,) = previews.calls("preview")
    assert "--policy-pack" in call["words"] and "--policy-pack-config" in call["words"]


def test_an_advisory_violation_and_a_machine_that_goes_are_warnings(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(previews, "add-vm")
    previews.put("preview.events", f"{violation('advisory')}\n{GOES}")
    assert run(monkeypatch, "preview") == 0
    said = capsys.readouterr().out
    assert "### Stack `lab`: 1 to replace" in said
    warnings = said[said.index("Warnings") :]
    assert "policy plaintext-secrets: data.key" in warnings
    assert "policy protected-machines: machine lab-vm-1 would be deleted" in warnings


def test_without_an_analyzer_the_previews_json_is_judged(
    previews: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (previews.bin / "pulumi-language-python-host").unlink()
    removed = json.loads((PREVIEWS / "remove-vm.json").read_text())
    previews.put("preview.out", {**removed, "changeSummary": {**removed["changeSummary"], "same": 0}})
    assert run(monkeypatch, "preview") == 0
    assert "policy protected-machines: machine " in capsys.readouterr().out
    (call,) = previews.calls("preview")
    assert "--policy-pack" not in call["words"] and "--show-sames" in call["words"]
