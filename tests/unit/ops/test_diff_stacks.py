"""`make diff-stacks` between copies of the repository's own stack files."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from commands import __main__ as cli
from ops import diff_stacks, workspace
from ops.diff_stacks import compare
from ops.errors import OpsError
from review.differences import Difference
from review.values import ABSENT

REPOSITORY = Path(__file__).parents[3]
DEV = yaml.safe_load((REPOSITORY / "Pulumi.dev.yaml").read_text())
Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes a stack file that is dev's but for what a function does to its tables."""
    monkeypatch.setattr(workspace, "ROOT", tmp_path)

    def write(name: str, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
        document = json.loads(json.dumps(DEV))
        tables = {key.removeprefix("istio-vms:"): value for key, value in document["config"].items()}
        change(tables)
        config = {f"istio-vms:{key}": value for key, value in tables.items()}
        (tmp_path / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": config}))

    write("a")
    return write


def test_a_default_that_is_written_out_is_no_difference(put: Put) -> None:
    put("b", lambda tables: tables["cluster"].update(podCidr="10.42.0.0/16"))
    assert compare("a", "b") == []


def test_another_value_is_told_with_the_default_it_differs_from(put: Put) -> None:
    put("b", lambda tables: tables["cluster"].update(podCidr="10.50.0.0/16"))
    assert compare("a", "b") == [Difference("cluster.podCidr", "10.42.0.0/16", "10.50.0.0/16")]


def test_workloads_and_vms_are_matched_by_name(put: Put) -> None:
    def change(tables: dict[str, Any]) -> None:
        tables["workloads"].reverse()
        vms = tables["workloads"][1]["vms"]
        vms.insert(0, {"name": "vm-0"})
        vms[1]["memory"] = "4Gi"
        vms.reverse()

    put("b", change)
    found = {one.path: (one.old, one.new) for one in compare("a", "b")}
    assert found.keys() == {"workloads[external-app].vms[vm-1].memory", "workloads[external-app].vms[vm-0]"}
    assert found["workloads[external-app].vms[vm-1].memory"] == ("1Gi", "4Gi")
    assert found["workloads[external-app].vms[vm-0]"][0] is ABSENT


def test_workloads_of_one_name_are_told_apart_by_namespace(put: Put) -> None:
    def change(memory: str) -> Callable[[dict[str, Any]], None]:
        def add(tables: dict[str, Any]) -> None:
            vms = [{"name": "vm-9", "memory": memory}]
            other = {
                **tables["workloads"][0],
                "namespace": "elsewhere",
                "serviceAccount": "other",
                "application": "none",
                "vms": vms,
            }
            tables["workloads"].append(other)

        return add

    put("a", change("1Gi"))
    put("b", change("2Gi"))
    assert [one.path for one in compare("a", "b")] == ["workloads[elsewhere/external-app].vms[vm-9].memory"]


def test_traffic_is_matched_by_service(put: Put) -> None:
    put("b", lambda tables: (tables["traffic"].reverse(), tables["traffic"][0]["retries"].update(attempts=5)))
    assert compare("a", "b") == [Difference("traffic[vmns/external-app].retries.attempts", 3, 5)]


def test_secrets_are_not_shown(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    def change(tables: dict[str, Any]) -> None:
        tables["mesh"]["values"] = {
            "gateway": {
                "agent-token": "hunter2",
                "etcd": {"secure": "v1:tWMwsdyzm5ANJztY:WRcLYa2O4aMeVMnmNSLLmI1c1kg="},
                "deep": [{"password": "hunter2"}],
            },
            "istiod": {"env": {"A": "-----BEGIN PRIVATE KEY-----hunter2"}},
        }

    put("b", change)
    found = compare("a", "b")
    shown = {one.path for one in found}
    assert {f"mesh.values.gateway.{key}" for key in ("agent-token", "etcd", "deep")} <= shown
    diff_stacks.show(found, "a", "b", Console(file=(table := io.StringIO())))
    for text in (table.getvalue(), diff_stacks.as_json(found, "a", "b"), repr(found)):
        assert "hunter2" not in text and "WRcLYa2O4aMe" not in text
        assert "[secret]" in text


def run(monkeypatch: pytest.MonkeyPatch, **variables: str) -> int:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["istio-vms", "diff-stacks"])
    return cli.main()


def test_the_table_has_both_stacks(
    put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(
        "b",
        lambda tables: (
            tables["mesh"].update(tag="1.30.3-distroless"),
            tables["cluster"].update(containerdTemplate="x\n" * 200),
        ),
    )
    assert run(monkeypatch, A="a", B="b") == 0, "a difference is no error"
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.split() == ["setting", "a", "b"]
    assert [row.split()[0] for row in rows] == ["cluster.containerdTemplate", "mesh.tag"]
    assert rows[1].split()[1:] == ["null", "1.30.3-distroless"]
    assert rows[0].rstrip().endswith("…") and len(rows[0].rstrip()) < 150


def test_json_leaves_out_what_a_stack_does_not_have(
    put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put("b", lambda tables: tables["workloads"][0]["vms"].pop())
    assert run(monkeypatch, A="a", B="b", ARGS="--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row.keys() == {"path", "a"}
    assert row["a"]["name"] == "vm-2"


def test_no_difference_is_a_line(put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, A="a", B="a") == 0
    assert capsys.readouterr().out == "stacks a and a have the same settings\n"


@pytest.mark.parametrize(("a", "b", "said"), [("", "a", "A=: there"), ("a", "nope", "B=nope: there is no such stack")])
def test_an_unknown_stack_is_an_error(
    put: Put, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], a: str, b: str, said: str
) -> None:
    assert run(monkeypatch, A=a, B=b) == 1
    assert said in capsys.readouterr().err


def test_settings_that_are_not_valid_are_told_with_their_stack(put: Put) -> None:
    put("b", lambda tables: tables["mesh"].update(version="1"))
    with pytest.raises(
        OpsError, match=r"^stack b: 1 error\(s\) in the settings.*\n.*mesh\.version: should be an Istio"
    ):
        compare("a", "b")
