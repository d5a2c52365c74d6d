"""Stack files that are wrong: every error is told with its path, all at once, by every command that reads one, without a traceback."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import __main__ as cli
from components.settings import find_problems
from ops import stack_file, workspace
from ops.stack_file import StackFileError
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World

DEV = (Path(__file__).parents[3] / "Pulumi.dev.yaml").read_text()
TABLES: dict[str, Any] = {k.removeprefix("istio-vms:"): v for k, v in yaml.safe_load(DEV)["config"].items()}
FILE = "Pulumi.bad.yaml"
ENCRYPTED = "v1:tWMwsdyzm5ANJztY:WRcLYa2O4aMeVMnmNSLLmI1c1kg="


def at(line: str, text: str = DEV) -> int:
    """The number of the line that begins like this."""
    return next(i for i, one in enumerate(text.splitlines(), 1) if one.strip().startswith(line))


def after(line: str, added: str) -> str:
    """The stack file with something added behind a line."""
    lines = DEV.splitlines()
    lines.insert(at(line), added)
    return "\n".join(lines) + "\n"


VERSION = at("version: 1.")
MALFORMED: dict[str, tuple[str | bytes, list[tuple[str, str]]]] = {
    "empty": ("", [(FILE, "is empty")]),
    "comments only": ("# nothing\n", [(FILE, "is empty")]),
    "null": ("null\n", [(FILE, "is empty")]),
    "a list": ("- config: {}\n", [(FILE, "is a list; it should have `config:`")]),
    "text": ("config\n", [(FILE, "is text")]),
    "a number": ("3\n", [(FILE, "is a number")]),
    "no config": ("encryptionsalt: v1:x\n", [(f"{FILE}: config", "missing")]),
    "config is null": ("config:\n", [(f"{FILE}: config", "missing")]),
    "config is a list": ("config: [1]\n", [(f"{FILE}: config", "is a list")]),
    "config is text": ("config: x\n", [(f"{FILE}: config", "is text")]),
    "a table beside config": (DEV + "istio-vms:traffic: []\n", [(f"{FILE}: istio-vms:traffic", "below `config:`")]),
    "an unknown key": (DEV + "colour: red\n", [(f"{FILE}: colour", "unknown; known are config")]),
    "salt is a number": (DEV + "encryptionsalt: 3\n", [(f"{FILE}: encryptionsalt", "is a number, should be text")]),
    "badly indented": (after("version: 1.", "  oops: 1\n      hub: x"), [(f"{FILE}:{VERSION + 2}:", "is no YAML")]),
    "a tab": (after("version: 1.", "\thub: x"), [(f"{FILE}:{VERSION + 1}:1", "character '\\t'")]),
    "an open bracket": (DEV + "x: [1, 2\n", [(f"{FILE}:", "is no YAML")]),
    "an open quote": (DEV + "x: 'y\n", [(f"{FILE}:", "is no YAML")]),
    "two documents": (DEV + "---\nconfig: {}\n", [(f"{FILE}:", "another document")]),
    "not UTF-8": (DEV.encode() + b"# \xff\n", [(f"{FILE}:{len(DEV.splitlines()) + 1}", "is not UTF-8")]),
    "UTF-16": (DEV.encode("utf-16"), [(f"{FILE}:1", "is not UTF-8")]),
    "a control character": (after("version: 1.", "    # \x07"), [(f"{FILE}:{VERSION + 1}", r"character '\x07'")]),
    "a key twice": (
        after("version: 1.", "    version: 1.30.4"),
        [(f"{FILE}:{VERSION + 1}", "'version' is there twice")],
    ),
    "a table twice": (
        DEV + "  istio-vms:samples: {}\n",
        [(f"{FILE}:{len(DEV.splitlines()) + 1}", "'istio-vms:samples' is there")],
    ),
    "config twice": (DEV + "config: {}\n", [(f"{FILE}:{len(DEV.splitlines()) + 1}", "'config' is there twice")]),
    "a table under both names": (
        DEV + "  samples: {}\n",
        [("config: samples", "is there twice, also as istio-vms:samples")],
    ),
    "an unknown alias": (
        after("version: 1.", "    hub: *nothing"),
        [(f"{FILE}:{VERSION + 1}:", "undefined alias")],
    ),
    "a value in itself": (
        after("version: 1.", "    values: &v {istiod: *v}"),
        [(f"{FILE}:{VERSION + 1}:", "contains itself")],
    ),
    "a tag": (after("version: 1.", "    hub: !secret x"), [(f"{FILE}:{VERSION + 1}:", "'!secret'")]),
    "a Python tag": (
        after("version: 1.", "    hub: !!python/name:os.system x"),
        [(f"{FILE}:{VERSION + 1}:", "tag")],
    ),
    "a list as a key": (after("version: 1.", "    ? [a]\n    : b"), [(f"{FILE}:{VERSION + 1}:", "unhashable key")]),
    "a number as a table": (DEV + "  3: {}\n", [("config: 3", "is no text")]),
    "null as a table": (DEV + "  ~: {}\n", [("config: None", "is no text")]),
    "an unknown table": (DEV + "  istio-vms:foo: {}\n", [("istio-vms:foo", "unknown; known are machines")]),
    "an unknown table without the project": (DEV + "  foo: {}\n", [("istio-vms:foo", "unknown; known are machines")]),
    "a misspelt project": (DEV + "  istio-vm:machines: {}\n", [("config: istio-vm:machines", "begin with istio-vms:")]),
    "no table's name": (DEV + "  'istio-vms:': {}\n", [("config: istio-vms:", "unknown")]),
    "an unknown provider": (DEV + "  aws:region: x\n", [("config: aws:region", "unknown")]),
    "a setting in dots": (DEV + "  istio-vms:samples.enabled: true\n", [("istio-vms:samples.enabled", "unknown")]),
    "not a number": (
        after("version: 1.", "    ingressPorts: {http: .nan}"),
        [("istio-vms:mesh.ingressPorts.http", "nan: should be a number")],
    ),
    "infinite": (
        after("version: 1.", "    values: {istiod: {a: [1, -.inf]}}"),
        [("istio-vms:mesh.values.istiod.a[1]", "-inf")],
    ),
    "a number as a key": (
        after("version: 1.", "    values: {istiod: {8000: a}}"),
        [("istio-vms:mesh.values.istiod.8000", "put it in quotes")],
    ),
    "a boolean as a key": (
        after("version: 1.", "    values: {istiod: {true: a}}"),
        [("istio-vms:mesh.values.istiod.True", "in quotes")],
    ),
    "binary": (
        after("version: 1.", "    trustDomain: !!binary aGk="),
        [("istio-vms:mesh.trustDomain", "is binary")],
    ),
    "a set": (after("version: 1.", "    namespaces: !!set {a, b}"), [("istio-vms:mesh.namespaces", "is set")]),
    "an unknown table that is binary": (
        DEV + "  istio-vms:foo: !!binary aGk=\n",
        [("istio-vms:foo", "is binary"), ("istio-vms:foo", "unknown")],
    ),
    "a date": (
        after("version: 1.", "    trustDomain: 2026-11-26\n    meshId: 2026-13-45"),
        [("istio-vms:mesh.meshId", "DNS label")],
    ),
    "yes for true": (DEV.replace("enabled: true", "enabled: yes"), [("istio-vms:samples.enabled", "valid boolean")]),
    "a time for a number": (
        after("version: 1.", "    ingressPorts: {http: 1:30}"),
        [("istio-vms:mesh.ingressPorts.http", "valid integer")],
    ),
    "driver encrypted": (
        DEV.replace("driver: multipass", f"driver: {{secure: '{ENCRYPTED}'}}"),
        [("istio-vms:machines.driver", "needed before Pulumi")],
    ),
    **{
        f"secure of {name}": (
            after("version: 1.", f"    trustDomain: {{secure: '{text}'}}"),
            [("istio-vms:mesh.trustDomain", "pulumi config set --secret")],
        )
        for name, text in (
            ("a word", "abc"),
            ("no base64", "v1:?:?"),
            ("another nonce", "v1:YWJj:WRcLYa2O4aMeVMnmNSLLmI1c1kg="),
            ("too little", "v1:tWMwsdyzm5ANJztY:YWJj"),
            ("another version", "v2:tWMwsdyzm5ANJztY:WRcLYa2O4aMeVMnmNSLLmI1c1kg="),
        )
    },
    "secure of nothing": (
        after("version: 1.", "    trustDomain: {secure: [1]}"),
        [("istio-vms:mesh.trustDomain", "pulumi config set --secret")],
    ),
    "several at once": (
        after("version: 1.", "    values: {istiod: {8000: .nan}}")
        + "  istio-vm:a: 1\n  istio-vms:protection: 4\ncolour: red\n",
        [
            (f"{FILE}: colour", "unknown"),
            ("config: istio-vm:a", "unknown"),
            ("istio-vms:mesh.values.istiod.8000", "quotes"),
            ("istio-vms:mesh.values.istiod.8000", "nan"),
            ("istio-vms:protection", "should be an object"),
        ],
    ),
}
WRONG: list[tuple[str, Any, str, str]] = [
    *(
        (table, value, f"istio-vms:{table}", says)
        for table, value, says in (
            ("machines", None, "is empty"),
            ("machines", [], "should be an object"),
            ("machines", "nspawn", "should be an object"),
            ("cluster", None, "is empty"),
            ("cluster", 3, "should be an object"),
            ("cluster", [{}], "should be an object"),
            ("mesh", None, "is empty"),
            ("mesh", "1.30.3", "should be an object"),
            ("mesh", True, "should be an object"),
            ("workloads", None, "is empty"),
            ("workloads", {}, "valid array"),
            ("workloads", "a", "valid array"),
            ("samples", None, "is empty"),
            ("samples", True, "should be an object"),
            ("samples", [], "should be an object"),
            ("policies", None, "is empty"),
            ("policies", "STRICT", "should be an object"),
            ("policies", [1], "should be an object"),
            ("telemetry", None, "is empty"),
            ("telemetry", [], "should be an object"),
            ("traffic", None, "is empty"),
            ("traffic", {}, "valid array"),
            ("protection", None, "is empty"),
            ("protection", [True], "should be an object"),
        )
    ),
    *(
        (path, value, f"istio-vms:{at}", says)
        for path, value, at, says in (
            ("machines.driver", None, "machines.driver", "null"),
            ("machines.driver", 3, "machines.driver", "'nspawn'"),
            ("machines.networks", None, "machines.networks", "valid array"),
            ("machines.networks", [None], "machines.networks[0]", "should be an object"),
            ("machines.networks", {"name": "a"}, "machines.networks", "valid array"),
            ("machines.mounts", ["/srv"], "machines.mounts[0]", "should be an object"),
            ("machines.multipass", None, "machines.multipass", "should be an object"),
            ("machines.user", 7, "machines.user", "valid string"),
            ("cluster.version", None, "cluster.version", "valid string"),
            ("cluster.version", 1.32, "cluster.version", "valid string"),
            ("cluster.binary", None, "cluster.binary", "should be an object"),
            ("cluster.binary", "/k3s", "cluster.binary", "should be an object"),
            ("cluster.servers", None, "cluster.servers", "should be an object"),
            ("cluster.servers", 3, "cluster.servers", "should be an object"),
            ("cluster.agents", [2], "cluster.agents", "should be an object"),
            ("cluster.images", [None], "cluster.images[0]", "should be an object"),
            ("cluster.config", None, "cluster.config", "should be an object"),
            ("cluster.disable", ["traefik"], "cluster.disable[0]", "is off, always"),
            ("cluster.serviceOptions", {"A": 1}, "cluster.serviceOptions.A", "valid string"),
            ("cluster.containerdTemplate", [], "cluster.containerdTemplate", "valid string"),
            ("mesh.charts", None, "mesh.charts", "should be an object"),
            ("mesh.charts", "https://x", "mesh.charts", "should be an object"),
            ("mesh.ingressPorts", 80, "mesh.ingressPorts", "should be an object"),
            ("mesh.ingressPorts", {"http": "80"}, "mesh.ingressPorts.http", "valid integer"),
            ("mesh.namespaces", "a", "mesh.namespaces", "valid array"),
            ("mesh.namespaces", [None], "mesh.namespaces[0]", "valid string"),
            ("mesh.sidecarPackage", [], "mesh.sidecarPackage", "should be an object"),
            ("mesh.values", [], "mesh.values", "should be an object"),
            ("workloads", [None], "workloads[0]", "should be an object"),
            ("workloads", [[]], "workloads[0]", "should be an object"),
            ("workloads", [{}], "workloads[0].name", "missing"),
            ("workloads.0.vms", None, "workloads[0].vms", "valid array"),
            ("workloads.0.vms", [None], "workloads[0].vms[0]", "should be an object"),
            ("workloads.0.vms", ["vm-1"], "workloads[0].vms[0]", "should be an object"),
            ("workloads.0.ports", None, "workloads[0].ports", "valid array"),
            ("workloads.0.ports", [80], "workloads[0].ports[0]", "should be an object"),
            ("workloads.0.probe", None, "workloads[0].probe", "should be an object"),
            ("workloads.0.probe", {"port": None}, "workloads[0].probe.port", "valid integer"),
            ("samples.enabled", 1, "samples.enabled", "valid boolean"),
            ("samples.helloworldImages", {"v3": "x"}, "samples.helloworldImages.v3.[key]", "'v1' or 'v2'"),
            ("policies.authorization", [None], "policies.authorization[0]", "should be an object"),
            ("policies.namespaceMtls", {"a": None}, "policies.namespaceMtls.a", "STRICT"),
            ("telemetry.namespaces", "sample", "telemetry.namespaces", "valid array"),
            ("traffic", [None], "traffic[0]", "should be an object"),
            ("protection.machines", "yes", "protection.machines", "valid boolean"),
        )
    ),
]


def put(path: str, value: Any) -> str:
    """A stack file with the value at a path such as `workloads.0.name`."""
    tables = copy.deepcopy(TABLES)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = tables
    for step in steps:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[last] = value
    return yaml.safe_dump({"config": {f"istio-vms:{key}": table for key, table in tables.items()}})


@pytest.fixture
def bad(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a stack, which the test writes; settings are looked at."""
    monkeypatch.setattr(stack_file, "find_problems", find_problems)
    monkeypatch.setenv("STACK", "bad")
    return world.project / FILE


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["istio-vms", *words])
    return cli.main()


def refused(capsys: pytest.CaptureFixture[str], expected: list[tuple[str, str]]) -> None:
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    lines = [line.strip().removeprefix("- ") for line in shown.err.splitlines() if line.startswith("  - ")]
    for path, says in expected:
        assert [line for line in lines if line.startswith(path) and says in line], (path, says, lines)


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_an_error_with_its_line_or_path(
    bad: Path, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    content, expected = MALFORMED[case]
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run(monkeypatch, "preview") == 1
    refused(capsys, expected)
    assert world.calls() == [] and world.tools() == []


@pytest.mark.parametrize(("path", "value", "at", "says"), WRONG)
def test_a_wrong_type_is_an_error_with_its_path(
    bad: Path, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str, value: Any, at: str, says: str,
) -> None:  # fmt: skip
    bad.write_text(put(path, value))
    assert run(monkeypatch, "preview") == 1
    refused(capsys, [(f"{at}: ", says)])
    assert world.calls() == []


def test_there_are_enough_bad_stacks() -> None:
    assert len(MALFORMED) + len(WRONG) >= 80


UNREADABLE = ("", "- a\n", "config: {a: [\n")
ENDS = {
    "up": 1, "preview": 1, "policy": 1, "diff-stacks": 1, "new-stack": 1, "status": 1, "down": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "text", [*UNREADABLE, "config: {istio-vms:machines: }\n", DEV.replace("  istio-vms:mesh:\n", "")]
)
@pytest.mark.parametrize("verb", ENDS)
def test_every_command_says_so_and_down_still_goes(
    bad: Path, world: World, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, text: str,
) -> None:  # fmt: skip
    bad.write_text(DEV)
    Stack.open("bad")
    kept = (world.home / f"stacks/bad/{FILE}").read_text()
    bad.write_text(text)
    for name, value in (("A", "bad"), ("B", "bad"), ("FROM", "bad"), ("NAME", "new")):
        monkeypatch.setenv(name, value)
    assert run(monkeypatch, verb) == ENDS[verb]
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    if verb == "status":
        assert "is not up" in shown.err, "the settings are not what is wrong with it"
        if text in UNREADABLE:
            # What was right before serves those that only look.
            assert (world.home / f"stacks/bad/{FILE}").read_text() == kept
    elif verb == "down":
        (call,) = world.calls("destroy")
        assert "--skip-config-validation" in call["words"]
        assert not world.home.exists()
    else:
        assert FILE in shown.err or "istio-vms:" in shown.err
    assert not world.project.joinpath("Pulumi.new.yaml").exists()


def test_down_takes_down_what_was_never_known_by_a_good_file(
    bad: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad.write_text(DEV)
    stack = Stack.open("bad")
    stack.config_file.unlink()
    bad.write_text("- a\n")
    assert run(monkeypatch, "down") == 0
    assert world.calls("destroy") and not world.home.exists()


def test_the_comment_on_a_pull_request_has_every_error(
    bad: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad.write_text(put("mesh.revision", "A.B") + "colour: red\n")
    monkeypatch.setattr(sys, "argv", ["istio-vms", "pull-request", "preview"])
    monkeypatch.delenv("ARGS", raising=False)
    assert cli.main() == 1
    comment = capsys.readouterr().out
    assert "istio-vms:mesh.revision" in comment and "colour" in comment


def test_which_stacks_a_change_touches_is_known_in_spite_of_a_bad_file(
    bad: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad.write_text("- a\n")
    monkeypatch.setattr(sys, "argv", ["istio-vms", "pull-request", "stacks", "--json"])
    monkeypatch.setattr(sys, "stdin", iter_lines("components/x.py\n"))
    monkeypatch.delenv("ARGS", raising=False)
    assert cli.main() == 0
    assert json.loads(capsys.readouterr().out) == ["bad", "dev", "lab", "lab-two"]


def iter_lines(text: str) -> Any:
    import io

    return io.StringIO(text)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + DEV,
        DEV.replace("istio-vms:samples", "samples"),
        DEV + "  pulumi:tags: {team: a}\n  kubernetes:namespace: x\n",
        DEV + f"  istio-vms:protection: {{secure: '{ENCRYPTED}'}}\n",
        DEV.replace("- {name: vm-1}", "- &first {name: vm-1}").replace("- {name: vm-2}", "- {<<: *first, name: vm-2}"),
    ],
    ids=["a byte order mark", "no project", "Pulumi's own", "encrypted", "anchors and merge keys"],
)  # fmt: skip
def test_what_is_unusual_but_right_is_taken(
    bad: Path, world: World, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    bad.write_text(text)
    assert run(monkeypatch, "preview") == 0
    given = (world.home / f"stacks/bad/{FILE}").read_text()
    assert not given.startswith("\ufeff")
    assert given.startswith(text.lstrip("\ufeff"))


def test_files_that_are_not_there_are_told_with_the_rest_before_anything_is_made(
    bad: Path, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad.write_text(put("machines.mounts", [{"source": "/nowhere", "target": "/opt"}]))
    assert run(monkeypatch, "preview") == 0
    assert run(monkeypatch, "up") == 1
    refused(capsys, [("istio-vms:machines.mounts[0].source", "does not exist")])
    assert world.calls("up") == []


def test_a_file_that_cannot_be_read_is_told(bad: Path) -> None:
    bad.mkdir()
    with pytest.raises(StackFileError, match="cannot be read: Is a directory"):
        workspace.read_stack_file("bad")
