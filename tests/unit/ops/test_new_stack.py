"""`make new-stack` on copies of the repository's own stack files."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import __main__ as cli
from components.settings import Settings, parse
from ops import new_stack, workspace
from ops.errors import OpsError
from ops.explained import sections
from review.rules import levels

REPOSITORY = Path(__file__).parents[3]
STACKS = sorted(path.name.split(".")[1] for path in REPOSITORY.glob("Pulumi.*.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in REPOSITORY.glob("Pulumi.*.yaml"):
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.setattr(workspace, "ROOT", tmp_path)
    return tmp_path


def config(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)["config"]


def applied(text: str) -> Settings:
    raw = {key.removeprefix("istio-vms:"): json.dumps(value) for key, value in config(text).items()}
    return parse("qa", raw)


@pytest.mark.parametrize("source", STACKS)
def test_every_value_is_kept(project: Path, source: str) -> None:
    new_stack.write("qa", source)
    assert config((project / "Pulumi.qa.yaml").read_text()) == config((project / f"Pulumi.{source}.yaml").read_text())


@pytest.mark.parametrize("source", STACKS)
def test_every_comment_within_the_settings_is_kept(project: Path, source: str) -> None:
    new_stack.write("qa", source)
    before = (project / f"Pulumi.{source}.yaml").read_text().split("\nconfig:\n")[1]
    comments = re.findall(r"(?:^|\s)# (.*)", before)
    text = (project / "Pulumi.qa.yaml").read_text()
    assert [comment for comment in comments if comment not in text] == []


@pytest.mark.parametrize("source", STACKS)
def test_every_setting_is_explained(project: Path, source: str) -> None:
    new_stack.write("qa", source)
    text = (project / "Pulumi.qa.yaml").read_text()
    told = " ".join(text.replace("# ", "").split())
    for kind in (kind for section in sections() for kind in section.kinds):
        assert kind.title in told
        for setting in (one for whole in kind.settings for one in (whole, *whole.parts)):
            assert setting.meaning and " ".join(setting.meaning.split()) in told, setting
            assert re.search(rf"^ +(# |#)?{re.escape(setting.name)}( \(|:)", text, re.MULTILINE), setting
    assert max(map(len, text.splitlines())) <= 160


@pytest.mark.parametrize("source", STACKS)
def test_what_is_commented_out_are_the_defaults(project: Path, source: str) -> None:
    new_stack.write("qa", source)
    text = (project / "Pulumi.qa.yaml").read_text()
    off = re.compile(r"^( *)#(?! )( *)(.+: .*|\S+:)$", re.MULTILINE)
    assert len(off.findall(text)) >= 10
    on = off.sub(r"\1\2\3", text)
    assert applied(on) == applied(text)
    assert config(on) != config(text), "there are some that were not set"


def test_tables_that_the_other_stack_lacks_can_be_switched_on(project: Path) -> None:
    lean = yaml.safe_load((project / "Pulumi.dev.yaml").read_text())
    for table in ("policies", "telemetry", "traffic", "samples"):
        del lean["config"][f"istio-vms:{table}"]
    (project / "Pulumi.lean.yaml").write_text(yaml.safe_dump(lean))
    new_stack.write("qa", "lean")
    text = (project / "Pulumi.qa.yaml").read_text()
    for table in ("policies", "telemetry", "samples"):
        on = text.replace(f"  #istio-vms:{table}: ", f"  istio-vms:{table}: ")
        assert f"istio-vms:{table}" in config(on)
        assert applied(on).as_documents() == applied(text).as_documents()
    assert "  #istio-vms:traffic: []\n" in text


def test_tables_on_one_line_are_taken_over(project: Path) -> None:
    (project / "Pulumi.dev.yaml").write_text(
        re.sub(
            r"  istio-vms:samples:\n    enabled: true\n",
            "  istio-vms:samples: {enabled: true}\n",
            (project / "Pulumi.dev.yaml").read_text(),
        )
    )
    new_stack.write("qa", "dev")
    assert "  # clientImage (`docker.io" in (text := (project / "Pulumi.qa.yaml").read_text())
    assert config(text)["istio-vms:samples"] == {"enabled": True}


def test_another_stacks_salt_is_not_taken_over_but_its_provider_is(project: Path) -> None:
    with (project / "Pulumi.dev.yaml").open("a") as file:
        file.write("secretsprovider: awskms://alias/x\nencryptedkey: abc\nencryptionsalt: v1:x\n")
    new_stack.write("qa", "dev")
    document = yaml.safe_load((project / "Pulumi.qa.yaml").read_text())
    assert document.keys() == {"secretsprovider", "config"}


def test_policies_are_strict_and_know_what_is_exposed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = new_stack.write("qa", "dev")
    assert "wrote review/levels/qa.json: every policy is mandatory, and sample/helloworld may be exposed" in told
    monkeypatch.setattr(levels, "FOLDER", project / "review/levels")
    read = levels.Levels.of_stack("qa")
    assert {read.level(rule) for rule in levels.RULES} == {"mandatory"}
    [exposure] = [rule for rule in levels.RULES if rule.name == "east-west-exposure"]
    assert read.options(exposure)["exposed"] == ["sample/helloworld"]


def test_a_stack_that_exposes_nothing_is_held_to_that(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = config((project / "Pulumi.prod.yaml").read_text())
    closed["istio-vms:mesh"]["exposedServices"] = []
    (project / "Pulumi.closed.yaml").write_text(yaml.safe_dump({"config": closed}))
    assert any("and no Service may be exposed" in line for line in new_stack.write("qa", "closed"))
    monkeypatch.setattr(levels, "FOLDER", project / "review/levels")
    assert {levels.Levels.of_stack("qa").level(rule) for rule in levels.RULES} == {"mandatory"}


def test_bridges_that_two_stacks_would_share_are_told(project: Path) -> None:
    assert any("machines.networks" in line for line in new_stack.write("qa", "lab"))
    assert not any("machines.networks" in line for line in new_stack.write("qa2", "dev"))


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("", "dev", "NAME= is missing"),
        ("lab", "dev", "Pulumi.lab.yaml is there already"),
        ("qa", "nope", "FROM=nope: there is no Pulumi.nope.yaml; stacks are dev, "),
        ("QA", "dev", "machine names begin with the stack's name"),
        ("../qa", "dev", "machine names begin with the stack's name"),
        ("a-name-that-is-far-too-long", "dev", "machine names begin with the stack's name"),
    ],
)
def test_what_cannot_be_is_refused_and_writes_nothing(project: Path, name: str, source: str, said: str) -> None:
    before = {path: path.read_text() for path in project.rglob("*") if path.is_file()}
    with pytest.raises(OpsError, match=re.escape(said)):
        new_stack.write(name, source)
    assert {path: path.read_text() for path in project.rglob("*") if path.is_file()} == before


def test_encrypted_values_are_refused_with_their_paths(project: Path) -> None:
    with (project / "Pulumi.dev.yaml").open("a") as file:
        file.write("  istio-vms:extra: {list: [{secure: v1:abc}]}\n")
    with pytest.raises(OpsError, match=r"encrypted values, .*: istio-vms:extra\.list\[0\]\. ") as raised:
        new_stack.write("qa", "dev")
    assert "v1:abc" not in str(raised.value)


def test_the_command_line_takes_dev_unless_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAME", "qa")
    monkeypatch.setattr(sys, "argv", ["istio-vms", "new-stack"])
    assert cli.main() == 0
    assert "wrote Pulumi.qa.yaml from Pulumi.dev.yaml; `make preview STACK=qa`" in capsys.readouterr().out
    assert cli.main() == 1
    assert "Pulumi.qa.yaml is there already; it stays as it is" in capsys.readouterr().err
