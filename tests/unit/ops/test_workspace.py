"""Which stack, where its state is, and that one stack's end leaves the others alone."""

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from actions.registry import LIST, PROVE
from ops import workspace
from ops.errors import OpsError
from ops.files import secret_file
from ops.workspace import Stack
from tests.unit.ops.conftest import World


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --------------------------------------------------------------------------------------------- which stack


def test_stack_names_the_stack(world: World) -> None:
    assert workspace.choose_stack("lab-two") == ("lab-two", "STACK asks for it")


@pytest.mark.parametrize(("installed", "chosen"), [(True, "dev"), (False, "lab")])
def test_without_stack_multipass_decides(
    world: World, monkeypatch: pytest.MonkeyPatch, installed: bool, chosen: str
) -> None:
    if installed:
        world.program("multipass", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(world.bin))
    name, why = workspace.choose_stack(None)
    assert name == chosen
    assert "Multipass" in why


def test_an_unknown_stack_names_the_missing_file_and_the_known_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OpsError, match=r"no Pulumi\.prod\.yaml; stacks are dev, lab, lab-two$"):
        workspace.choose_stack("prod")


# --------------------------------------------------------------------------------------------- where state is


def test_the_passphrase_is_only_ours_and_stays(world: World) -> None:
    Stack.open("lab")
    file = world.home / "passphrase"
    first = file.read_text()
    assert mode(file) == 0o600
    assert len(first) >= 40
    assert [mode(folder) for folder in (world.home, world.home / "backend", world.home / "stacks/lab")] == [0o700] * 3
    Stack.open("lab-two")
    assert file.read_text() == first


def test_a_given_passphrase_is_used_and_none_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "given")
    stack = Stack.open("lab")
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in stack.env
    assert not (world.home / "passphrase").exists()


def test_the_salt_stays_while_the_settings_follow_the_repository(world: World) -> None:
    Stack.open("lab")
    (world.project / "Pulumi.lab.yaml").write_text("config:\n  istio-vms:machines: {driver: multipass}\n")
    stack = Stack.open("lab")
    assert yaml.safe_load(stack.config_file.read_text()) == {
        "config": {"istio-vms:machines": {"driver": "multipass"}},
        "encryptionsalt": "v1:salt-of-lab",
    }
    assert len(world.calls("stack", "init")) == 1
    assert not (world.project / "Pulumi.lab.yaml").read_text().count("salt")


def test_a_salt_that_the_repository_has_wins(world: World) -> None:
    with (world.project / "Pulumi.lab.yaml").open("a") as file:
        file.write("encryptionsalt: v1:of-the-team\n")
    text = Stack.open("lab").config_file.read_text()
    assert yaml.safe_load(text)["encryptionsalt"] == "v1:of-the-team"
    assert text.count("encryptionsalt") == 1


def test_an_init_that_was_cut_off_is_done_again(world: World) -> None:
    (world.home / "stacks/lab/init").mkdir(parents=True)
    (world.home / "stacks/lab/init/left").touch()
    assert "salt-of-lab" in Stack.open("lab").config_file.read_text()
    assert not (world.home / "stacks/lab/init").exists()


def test_attribute_files_that_a_killed_engine_left_empty_go(world: World) -> None:
    Stack.open("lab")
    stacks = world.home / "backend/.pulumi/stacks/istio-vms"
    (stacks / "lab.json.attrs").touch()
    (stacks / "lab.json.bak.attrs").write_text("{}")
    Stack.find("lab")
    assert sorted(path.name for path in stacks.iterdir()) == ["lab.json", "lab.json.bak.attrs"]


def test_another_back_end_is_respected(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path / 'elsewhere'}")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "ours")
    Stack.open("lab")
    assert {call["env"]["PULUMI_BACKEND_URL"] for call in world.calls()} == {f"file://{tmp_path / 'elsewhere'}"}
    assert (tmp_path / "elsewhere/.pulumi/stacks/istio-vms/lab.json").exists()
    assert not (world.home / "backend").exists()


@pytest.mark.parametrize(
    ("named", "used"),
    [
        ("s3://team?region=eu-west-1", "s3://team?region=eu-west-1"),
        ("https://api.pulumi.com", "https://api.pulumi.com"),
        ("file://state", "file://{root}/state"),
        ("file:///srv/state?no_tmp_dir=true", "file:///srv/state?no_tmp_dir=true"),
        ("file://~/state", "file://{home}/state"),
    ],
)
def test_the_back_end_of_the_project_is_used_unless_the_environment_names_one(
    world: World, monkeypatch: pytest.MonkeyPatch, named: str, used: str
) -> None:
    (world.project / "Pulumi.yaml").write_text(f"name: istio-vms\nbackend: {{url: '{named}'}}\n")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "")  # as CI sets what is not set
    expected = used.format(root=world.project, home=Path.home())
    assert workspace.environment()["PULUMI_BACKEND_URL"] == expected
    monkeypatch.setenv("PULUMI_BACKEND_URL", "gs://mine")
    assert workspace.environment()["PULUMI_BACKEND_URL"] == "gs://mine"


def test_an_empty_variable_of_pulumis_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PULUMI_BACKEND_URL",
        "PULUMI_CONFIG_PASSPHRASE",
        "PULUMI_CONFIG_PASSPHRASE_FILE",
        "PULUMI_ACCESS_TOKEN",
    ):
        monkeypatch.setenv(name, "")
    env = workspace.environment()
    assert env["PULUMI_BACKEND_URL"] == f"file://{world.home / 'backend'}"
    assert env["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(world.home / "passphrase")
    assert not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_ACCESS_TOKEN"} & env.keys()


def test_a_folder_that_cannot_be_made_is_told_before_anything_runs(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path / 'file/state'}")
    with pytest.raises(OpsError, match=r"file/state, which cannot be made: Not a directory$"):
        Stack.open("lab")
    assert not world.calls()


def test_a_folder_that_may_not_be_written_to_is_told_before_anything_runs(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path / 'theirs'}")
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path / "theirs")  # root may write anywhere
    with pytest.raises(OpsError, match=r"theirs, which this user may not write to"):
        Stack.open("lab")
    assert not world.calls()


# --------------------------------------------------------------------------------------------- what encrypts it


def another_operator(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same back end, with nothing of the first operator's besides: the folder of the second one's state."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{world.home / 'backend'}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "second"))
    return tmp_path / "second/istio-vms"


def test_another_operator_gets_the_salt_from_the_state(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Stack.open("lab")
    another_operator(world, monkeypatch, tmp_path)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "shared")
    for opened in (Stack.open("lab"), Stack.find("lab")):
        assert yaml.safe_load(opened.config_file.read_text())["encryptionsalt"] == "v1:salt-of-lab"
    assert len(world.calls("stack", "init")) == 1


@pytest.mark.parametrize("how", [Stack.open, Stack.find])
def test_no_passphrase_is_made_up_for_a_stack_that_exists(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: Callable[[str], Stack]
) -> None:
    Stack.open("lab")
    second = another_operator(world, monkeypatch, tmp_path)
    with pytest.raises(OpsError) as raised:
        how("lab")
    said = str(raised.value)
    assert said.startswith("missing passphrase: the secrets of stack lab ")
    assert f"{second}/passphrase" in said
    assert said.endswith("or set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE")
    assert not (second / "passphrase").exists()


def test_nor_for_a_new_stack_of_a_shared_back_end(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    second = another_operator(world, monkeypatch, tmp_path)
    with pytest.raises(OpsError, match=r"^missing passphrase: .*nobody makes one up for you"):
        Stack.open("lab")
    assert not (second / "passphrase").exists()
    assert not world.calls("stack", "init")


def test_a_lost_passphrase_is_not_replaced(stack: Stack, world: World) -> None:
    (world.home / "passphrase").unlink()
    with pytest.raises(OpsError, match=r"^missing passphrase: "):
        Stack.open("lab")
    assert not (world.home / "passphrase").exists()


def test_a_wrong_passphrase_is_told_with_where_it_comes_from(
    stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("wrong-passphrase", "")
    with pytest.raises(
        OpsError, match=rf"^wrong passphrase: what {world.home}/passphrase has does not open .* stack lab"
    ):
        Stack.open("lab")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "hunter2")
    with pytest.raises(OpsError, match=r"^wrong passphrase: what PULUMI_CONFIG_PASSPHRASE has ") as raised:
        Stack.open("lab")
    assert "hunter2" not in str(raised.value)
    assert not (stack.folder / "try.yaml").exists()


def test_what_was_encrypted_with_another_passphrase_is_named(stack: Stack, world: World) -> None:
    """Pulumi says `cipher: message authentication failed`, and no more."""
    sealed = "{secure: 'v1:tWMwsdyzm5ANJztY:WRcLYa2O4aMeVMnmNSLLmI1c1kg='}"
    (world.project / "Pulumi.lab.yaml").write_text(f"config:\n  istio-vms:mesh: {{meshId: {sealed}}}\n")
    Stack.open("lab")
    world.put("config.code", "255")
    with pytest.raises(OpsError, match=r"opens not all of istio-vms:mesh.meshId\. Encrypt them again: `pulumi config"):
        Stack.open("lab")


def test_secrets_are_tried_as_the_stack_encrypts_them(stack: Stack, world: World) -> None:
    assert yaml.safe_load((world.folder / "tried.yaml").read_text()) == {"encryptionsalt": "v1:salt-of-lab"}
    assert "try:" not in stack.config_file.read_text()


KEY = "awskms://alias/team?region=eu-west-1"


def test_a_stack_with_a_key_in_a_cloud_needs_no_passphrase(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (world.project / "Pulumi.lab.yaml").open("a") as file:
        file.write(f"secretsprovider: {KEY}\n")
    Stack.open("lab")
    (call,) = world.calls("stack", "init")
    assert call["words"][call["words"].index("--secrets-provider") + 1] == KEY
    another_operator(world, monkeypatch, tmp_path)
    text = Stack.open("lab").config_file.read_text()
    assert text.count("secretsprovider") == 1
    written = yaml.safe_load(text)
    assert (written["secretsprovider"], written["encryptedkey"]) == (KEY, "key")
    assert not any(folder.joinpath("passphrase").exists() for folder in (world.home, tmp_path / "second/istio-vms"))


def test_pulumi_cloud_needs_no_passphrase(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # The fake keeps its stacks in a folder of that name all the same.
    monkeypatch.setenv("PULUMI_BACKEND_URL", "https://pulumi.example")
    monkeypatch.setattr(workspace, "ROOT", world.project)
    monkeypatch.chdir(world.project)
    Stack.open("lab")
    assert len(world.calls("stack", "init")) == 1
    assert not (world.home / "passphrase").exists()


def test_a_stack_that_moves_to_another_key_takes_nothing_of_the_old_one(stack: Stack, world: World) -> None:
    with (world.project / "Pulumi.lab.yaml").open("a") as file:
        file.write(f"secretsprovider: {KEY}\n")
    written = yaml.safe_load(Stack.open("lab").config_file.read_text())
    assert (written["secretsprovider"], written.keys() & {"encryptionsalt", "encryptedkey"}) == (KEY, set())


def test_our_tools_come_first_on_path_and_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = workspace.environment()["PATH"]
    assert first.split(os.pathsep)[:2] == [str(world.project / ".venv/bin"), str(world.bin)]
    monkeypatch.setenv("PATH", first)
    assert workspace.environment()["PATH"] == first


def test_stand_ins_serve_until_both_official_providers_are_there(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lab.tools.recipes import PLUGINS

    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    for name, version in PLUGINS.items():
        assert "lab/plugins/bin" in workspace.environment()["PATH"]
        folder = tmp_path / f"pulumi/plugins/resource-{name}-v{version}"
        folder.mkdir(parents=True)
        (folder / f"pulumi-resource-{name}").touch()
    assert "lab/plugins/bin" not in workspace.environment()["PATH"]
    assert "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION" not in workspace.environment()


def test_a_stack_that_is_not_there_is_not_made_by_looking(world: World) -> None:
    with pytest.raises(OpsError, match="stack lab is not up; `make up STACK=lab`"):
        Stack.find("lab")
    assert not world.home.exists()


# --------------------------------------------------------------------------------------------- its end


def traces(world: World, stack: str) -> list[Path]:
    """What the real engine leaves of a stack that was destroyed and removed."""
    pulumi = world.home / "backend/.pulumi"
    made = [
        pulumi / f"backups/istio-vms/{stack}/{stack}.1795231500.json",
        pulumi / f"history/istio-vms/{stack}/{stack}-1795231500.history.json",
        pulumi / f"locks/organization/istio-vms/{stack}/left.json",
        pulumi / f"stacks/istio-vms/{stack}.json.bak",
    ]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return made


def test_only_this_stacks_traces_go(world: World) -> None:
    first, second = Stack.open("lab"), Stack.open("lab-two")
    gone, kept = traces(world, "lab"), traces(world, "lab-two")
    workspace.forget(first)
    assert not any(path.exists() for path in [*gone, first.folder])
    assert all(path.exists() for path in [*kept, second.config_file, world.home / "passphrase"])
    assert Stack.find("lab-two").exists()


def test_with_the_last_stack_all_of_it_goes(world: World) -> None:
    stack = Stack.open("lab")
    stack.pulumi("stack", "rm", "lab")
    traces(world, "lab")
    workspace.forget(stack)
    assert not world.home.exists()


@pytest.mark.parametrize("claims", [["dev-vm-1.json"], []])
def test_claims_to_instances_of_stacks_that_are_kept_elsewhere_stay(world: World, claims: list[str]) -> None:
    stack = Stack.open("lab")
    stack.pulumi("stack", "rm", "lab")
    traces(world, "lab")
    folder = world.home / "multipass/claims"
    folder.mkdir(parents=True)
    for claim in claims:
        (folder / claim).write_text("{}")
    workspace.forget(stack)
    assert [str(path.relative_to(folder)) for path in world.home.rglob("*") if path.is_file()] == claims
    assert world.home.exists() == bool(claims)


def test_what_belongs_to_a_stack_of_another_back_end_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack.open("lab")
    stack.pulumi("stack", "rm", "lab")
    (world.home / "stacks/elsewhere").mkdir()
    workspace.forget(stack)
    assert (world.home / "passphrase").exists()


def test_a_named_back_end_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path / 'elsewhere'}")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "ours")
    stack = Stack.open("lab")
    workspace.forget(stack)
    assert (tmp_path / "elsewhere/.pulumi/stacks/istio-vms/lab.json").exists()
    assert not stack.folder.exists()


# --------------------------------------------------------------------------------------------- calling


def test_pulumis_reason_is_ours(stack: Stack, world: World) -> None:
    world.put("refuses", "")
    with pytest.raises(OpsError) as raised:
        stack.deployment()
    assert str(raised.value) == "`pulumi stack export` failed: the back end cannot be reached"


def test_a_machine_without_pulumi_is_told_how_to_get_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.bin / "pulumi").unlink()
    monkeypatch.setenv("PATH", "/nowhere")
    (world.home / "backend").mkdir(parents=True)
    with pytest.raises(OpsError, match="`make tools` gets it"):
        Stack.open("lab")


def test_a_document_travels_on_stdin_only(stack: Stack, world: World) -> None:
    world.put("machines.list.json", [{"name": "a"}])
    said: list[str] = []
    answer = stack.act(LIST, {"key": "hunter2" * 50_000}, tell=said.append)
    assert answer == [{"name": "a"}]
    assert said == ["[   0.1 s] machines.list is at work"]
    (call,) = [json.loads(line) for line in (world.folder / "actions.jsonl").read_text().splitlines()]
    assert "hunter2" in call["document"]["key"]
    assert "hunter2" not in " ".join(call["argv"])


def test_a_failing_module_says_why_in_a_line(stack: Stack, world: World) -> None:
    world.put("samples.prove.error", "error: 2 call(s) failed within 60 s:\n  pod → a: 503\n  a → pods: 403")
    with pytest.raises(OpsError) as raised:
        stack.act(PROVE, {})
    assert str(raised.value) == "2 call(s) failed within 60 s: pod → a: 503 a → pods: 403"


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("older and longer")
    path.chmod(0o644)
    secret_file(path, "new")
    assert (mode(path), path.read_text()) == (0o600, "new")
    assert subprocess.run(["ls", tmp_path], capture_output=True, text=True).stdout == "key\n"
