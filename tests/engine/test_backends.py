"""Where state is kept, with the real engine: by two operators who share a folder, and in S3; and what is said when it cannot be had."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from commands import __main__ as cli
from ops import engine, workspace
from ops.errors import OpsError
from ops.stack_file import StackFile
from ops.workspace import Stack
from tests.engine.aws_server import CREDENTIALS, AwsServer

PROGRAM = """\
import pulumi
from pulumi_command import local
said = local.Command("say", create="cat", stdin=pulumi.Output.secret("hunter2"))
pulumi.export("said", said.stdout)
"""


@dataclass
class Team:
    """A project of a stack `team`, and its operators: each has a folder of their own and nothing in common but the back end."""

    folder: Path
    patch: pytest.MonkeyPatch

    def work_as(self, operator: str) -> None:
        self.patch.setenv("XDG_STATE_HOME", str(self.folder / operator))

    def run(self, verb: str) -> int:
        """`make <verb>`, without getting tools first."""
        self.patch.setattr(sys, "argv", ["istio-vms", verb])
        return cli.main()

    @property
    def stack_file(self) -> Path:
        return self.folder / "project/Pulumi.team.yaml"


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    project = tmp_path / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: istio-vms\nruntime: python\n")
    (project / "__main__.py").write_text(PROGRAM)
    made = Team(tmp_path, monkeypatch)
    made.stack_file.write_text("config: {'istio-vms:machines': {driver: multipass}}\n")
    for module in (workspace, engine):
        monkeypatch.setattr(module, "ROOT", project)
    monkeypatch.setattr(workspace, "get_tools", lambda *_, **__: None)
    # The program reads none of the settings, and there is next to none.
    monkeypatch.setattr(StackFile, "check", lambda *_, **__: None)
    for name in [name for name in os.environ if name.startswith(("PULUMI_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("STACK", "team")
    made.work_as("first")
    return made


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    with AwsServer.started(tmp_path_factory.mktemp("aws") / "log") as server:
        yield server


def in_a_folder(team: Team, aws: AwsServer) -> None:
    team.patch.setenv("PULUMI_BACKEND_URL", f"file://{team.folder / 'shared'}")
    team.patch.setenv("PULUMI_CONFIG_PASSPHRASE", "ours")


def in_s3(team: Team, aws: AwsServer) -> None:
    """By Pulumi's own setting in Pulumi.yaml; the passphrase is in a file of each operator's."""
    aws.make_bucket("team")
    project = team.folder / "project/Pulumi.yaml"
    project.write_text(f"{project.read_text()}backend: {{url: '{aws.backend('team')}'}}\n")
    for name, value in aws.env.items():
        team.patch.setenv(name, value)
    for operator in ("first", "second"):
        home = team.folder / operator / "istio-vms"
        home.mkdir(parents=True)
        (home / "passphrase").write_text("ours")


def with_a_key_in_a_cloud(team: Team, aws: AwsServer) -> None:
    aws.make_bucket("keyed")
    team.patch.setenv("PULUMI_BACKEND_URL", aws.backend("keyed"))
    for name, value in aws.env.items():
        team.patch.setenv(name, value)
    with team.stack_file.open("a") as file:
        file.write(f"secretsprovider: {aws.make_key()}\n")


def up(*arguments: str) -> Stack:
    stack = Stack.open("team")
    engine.operate(stack, "up", "--yes", "--skip-preview", *arguments)
    return stack


@pytest.mark.parametrize("shared", [in_a_folder, in_s3, with_a_key_in_a_cloud])
def test_two_operators_work_on_one_stack(
    team: Team, aws: AwsServer, shared: Callable[[Team, AwsServer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    shared(team, aws)
    first = up()
    before, folder = first.deployment()["secrets_providers"], first.folder
    team.work_as("second")
    assert team.run("preview") == 0
    second = up("--expect-no-changes")
    assert second.deployment()["secrets_providers"] == before
    team.work_as("first")
    assert team.run("preview") == 0, "the first goes on as before"
    team.work_as("second")
    assert team.run("down") == 0, capsys.readouterr()
    assert not Stack("team", workspace.environment()).exists()
    team.work_as("first")
    assert team.run("down") == 0, "what the first has of it goes as well"
    assert not folder.exists()


def test_a_salt_in_the_stack_file_wins_from_the_first_up_on(team: Team, aws: AwsServer) -> None:
    in_a_folder(team, aws)
    made = Stack.open("team")
    salt = yaml.safe_load(made.config_file.read_text())["encryptionsalt"]
    assert team.run("down") == 0
    with team.stack_file.open("a") as file:
        file.write(f"encryptionsalt: {salt}\n")
    assert up().deployment()["secrets_providers"]["state"] == {"salt": salt}
    assert team.run("down") == 0


def test_the_second_operator_needs_the_passphrase_and_the_right_one(team: Team, aws: AwsServer) -> None:
    in_a_folder(team, aws)
    up()
    team.work_as("second")
    team.patch.delenv("PULUMI_CONFIG_PASSPHRASE")
    with pytest.raises(
        OpsError, match=r"^missing passphrase: .* PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE$"
    ):
        Stack.open("team")
    team.patch.setenv("PULUMI_CONFIG_PASSPHRASE", "theirs")
    for used in (lambda: Stack.open("team"), lambda: Stack.find("team").deployment()):
        with pytest.raises(OpsError, match=r"^wrong passphrase: what PULUMI_CONFIG_PASSPHRASE has "):
            used()
    team.patch.setenv("PULUMI_CONFIG_PASSPHRASE", "ours")
    assert team.run("down") == 0


def test_a_wrong_passphrase_is_noticed_before_there_is_any_secret(team: Team, aws: AwsServer) -> None:
    in_a_folder(team, aws)
    Stack.open("team")
    team.work_as("second")
    team.patch.setenv("PULUMI_CONFIG_PASSPHRASE", "theirs")
    with pytest.raises(OpsError, match=r"^wrong passphrase: "):
        Stack.open("team")


@pytest.mark.parametrize(
    ("url", "credentials", "hint"),
    [
        (
            "s3://b?endpoint=127.0.0.1:9&disableSSL=true&s3ForcePathStyle=true&region=us-east-1",
            True,
            "nobody answers there",
        ),
        ("s3://b?region=us-east-1", False, "AWS_ACCESS_KEY_ID"),
        ("missing", True, "there is no such bucket"),
        ("gs://b", False, "credentials"),
        ("azblob://b", False, "credentials"),
        ("https://api.pulumi.com", False, "`pulumi login`"),
    ],
)
def test_a_back_end_that_cannot_be_used_is_told_with_what_to_do(
    team: Team, aws: AwsServer, capsys: pytest.CaptureFixture[str], url: str, credentials: bool, hint: str
) -> None:
    team.patch.setenv("PULUMI_BACKEND_URL", url if ":" in url else aws.backend(url))
    team.patch.setenv("PULUMI_CONFIG_PASSPHRASE", "ours")
    team.patch.setenv("HOME", str(team.folder))
    team.patch.setenv("PULUMI_HOME", str(team.folder / "pulumi"))
    for name, value in CREDENTIALS.items() if credentials else ():
        team.patch.setenv(name, value)
    for verb in ("preview", "down", "status"):
        assert team.run(verb) == 1
        said = capsys.readouterr().err
        assert "cannot be used" in said and hint in said, said
