"""A release of Kubernetes that no node would take is refused before anything is done."""

import sys

import pytest

from commands import __main__ as cli
from ops import versions
from ops.errors import OpsError
from ops.workspace import Stack
from tests.unit.ops.conftest import World, secret, urn

FILE = "config:\n  istio-vms:machines: {{driver: nspawn}}\n  istio-vms:cluster: {}\n"


@pytest.fixture(autouse=True)
def lab(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that is up with v1.32.0+k3s1."""
    monkeypatch.setenv("STACK", "lab")
    kind = "pulumi:pulumi:Stack"
    exported = {"settings": secret({"cluster": {"version": "v1.32.0+k3s1"}})}
    root = {"urn": urn(kind, "istio-vms-lab"), "custom": False, "type": kind, "outputs": exported}
    world.put("deployment.json", {"resources": [root]})


def wants(world: World, cluster: str) -> None:
    (world.project / "Pulumi.lab.yaml").write_text(FILE.format(cluster))


@pytest.mark.parametrize("verb", ["up", "preview"])
@pytest.mark.parametrize(
    ("release", "says"),
    [("v1.34.1+k3s1", "Say a release of v1.33 first"), ("v1.31.9+k3s1", "Kubernetes does not go back")],
)
def test_a_step_that_cannot_be_is_refused(
    verb: str,
    release: str,
    says: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wants(world, f"{{version: {release}}}")
    monkeypatch.setattr(sys, "argv", ["istio-vms", verb])
    assert cli.main() == 1
    said = " ".join(capsys.readouterr().err.split())
    assert (f"error: istio-vms:cluster.version: {release}: the cluster is of v1.32.0+k3s1") in said
    assert says in said
    assert world.calls(verb) == []


@pytest.mark.parametrize(
    "cluster",
    ["{version: v1.32.0+k3s1}", "{version: v1.33.6+k3s1}", "{existing: {context: x}}", "{version: 1}", "x", ""],
)
def test_other_settings_are_for_the_program_to_judge(cluster: str, world: World, stack: Stack) -> None:
    wants(world, cluster)
    versions.refuse_step(stack)


def test_a_stack_that_is_not_up_may_have_any_release(world: World, stack: Stack) -> None:
    world.put("deployment.json", {})
    wants(world, "{version: v1.36.5+k3s1}")
    versions.refuse_step(stack)


def test_the_reason_is_one_line(world: World, stack: Stack) -> None:
    wants(world, "{version: v1.36.5+k3s1}")
    with pytest.raises(OpsError, match=r"^istio-vms:cluster\.version: [^\n]+ Nothing was changed$"):
        versions.refuse_step(stack)
