"""The table: everything pinned, nothing dangling."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from lab.images.catalog import ISTIO_HUB
from lab.tools import __main__ as command_line
from lab.tools import gobuild, recipes
from lab.tools.gobuild import GoBuild, ModuleFiles
from lab.tools.recipes import TOOLS, by_name, key, plugin_release, pulumi_release, with_needs
from lab.tools.tool import Call
from lab.tools.wheels import Wheel


def test_every_wheel_is_pinned_by_version_and_hash() -> None:
    wheels = [step for tool in TOOLS for step in tool.steps if isinstance(step, Wheel)]
    assert wheels
    for wheel in wheels:
        assert re.fullmatch(r"[a-z-]+==[0-9a-z.]+", wheel.requirement)
        assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)


def test_every_go_module_has_a_go_mod_and_checksums_for_what_it_requires() -> None:
    modules = {step.module for tool in TOOLS for step in tool.steps if isinstance(step, GoBuild | ModuleFiles)}
    for module in modules:
        text = (gobuild.MODULES / module / "go.mod").read_text()
        assert "toolchain" not in text
        if "require" in text:
            assert (gobuild.MODULES / module / "go.sum").stat().st_size > 0


def test_versions_agree_with_the_modules() -> None:
    def requires(module: str) -> str:
        return (gobuild.MODULES / module / "go.mod").read_text()

    assert f"github.com/pulumi/pulumi/pkg/v3 v{recipes.PULUMI}" in requires("pulumi")
    assert "github.com/pulumi/pulumi/sdk/v3 v3.76.0" in requires("pulumi-language-python")
    for module, version, commit in (
        ("istio", recipes.ISTIO, recipes.ISTIO_COMMIT),
        ("istio-next", recipes.ISTIO_NEXT, recipes.ISTIO_NEXT_COMMIT),
    ):
        assert f"istio.io/istio v0.0.0-{version.rpartition('.')[2]}" in requires(module)  # ends in the commit's date
        assert commit in requires(module)
        assert by_name()[module].version == version
    assert f"github.com/rhysd/actionlint v{recipes.ACTIONLINT}" in requires("actionlint")
    assert f"github.com/coredns/coredns v{by_name()['coredns'].version}" in requires("coredns")


def test_the_lab_runs_the_istio_that_is_built() -> None:
    file = Path(__file__).parents[3] / "Pulumi.lab.yaml"
    mesh = yaml.safe_load(file.read_text())["config"]["istio-vms:mesh"]
    assert (mesh["version"], mesh["hub"], mesh["tag"]) == (recipes.ISTIO, ISTIO_HUB, recipes.ISTIO)


def test_every_release_names_its_version_and_is_fetched_over_https() -> None:
    releases = [tool.official for tool in TOOLS if tool.official] + [plugin_release(name) for name in recipes.PLUGINS]
    assert len(releases) == 7
    for release in releases:
        assert release.url.startswith("https://") and release.checksums.startswith("https://")
        assert re.search(r"\d+\.\d+\.\d+", release.url)


def test_an_official_release_gives_every_program_that_is_linked() -> None:
    for tool in TOOLS:
        if tool.official and not any(member.endswith("/") for member in tool.official.members):
            assert set(tool.links.values()) <= set(tool.official.members.values()), tool.name


def test_a_tool_brings_what_it_is_made_from_and_the_compiler() -> None:
    names = [tool.name for tool in with_needs(["istio-sidecar"])]
    assert set(names) == {"istio-sidecar", "istio", "envoy", "go"}
    names = [tool.name for tool in with_needs(["istio-sidecar-next", "istio-images-next"])]
    assert set(names) == {"istio-sidecar-next", "istio-images-next", "istio-next", "envoy", "rootfs", "go"}
    assert [tool.name for tool in with_needs(["helm"])] == ["helm"]
    with pytest.raises(KeyError):
        with_needs(["nothing"])


def test_what_is_optional_is_got_only_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Sequence[str]] = []
    monkeypatch.setattr(command_line, "install", lambda names, *_: got.append(names))
    for words in ([], ["istio-next"]):
        monkeypatch.setattr(sys, "argv", ["tools", "install", *words])
        command_line.main()
    assert "istio" in got[0] and "istio-next" not in got[0]
    assert got[1] == ["istio-next"]


def test_no_tool_that_everyone_gets_needs_an_optional_one() -> None:
    usual = [tool.name for tool in TOOLS if not tool.optional]
    assert not any(tool.optional for tool in with_needs(usual))


def test_each_program_on_path_comes_from_one_tool() -> None:
    links = [link for tool in TOOLS for link in tool.links]
    assert len(links) == len(set(links))


def test_ingredients_are_never_taken_from_path() -> None:
    for tool in TOOLS:
        for need in tool.needs:
            assert by_name()[need].on_path is None


def test_a_key_changes_with_flags_with_module_files_and_with_ingredients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "probe"
    module.mkdir()
    (module / "go.mod").write_text("module probe\n")
    monkeypatch.setattr(gobuild, "MODULES", tmp_path)
    build = GoBuild(module="probe", packages={"probe": "."})
    ingredient = dataclasses.replace(by_name()["coredns"], name="ingredient", steps=[build])
    product = dataclasses.replace(ingredient, name="product", steps=[Call(print)], needs=["ingredient"])

    def keys(tool: recipes.Tool) -> tuple[str, str]:
        monkeypatch.setattr(recipes, "TOOLS", (tool, product))
        return key(tool), key(product)

    first = keys(ingredient)
    assert keys(ingredient) == first
    tagged = keys(dataclasses.replace(ingredient, steps=[dataclasses.replace(build, tags=["more"])]))
    assert tagged[0] != first[0] and tagged[1] != first[1]
    (module / "main_test.go").write_text("package main\n")
    assert keys(ingredient) == first  # a test is no part of the program
    (module / "main.go").write_text("package main\n")
    changed = keys(ingredient)
    assert changed[0] != first[0] and changed[1] != first[1]


@pytest.mark.parametrize(
    ("system", "pulumi", "plugin"),
    [
        (("Linux", "x86_64"), "linux-x64", "linux-amd64"),
        (("Linux", "aarch64"), "linux-arm64", "linux-arm64"),
        (("Darwin", "x86_64"), "darwin-x64", "darwin-amd64"),
        (("Darwin", "arm64"), "darwin-arm64", "darwin-arm64"),
    ],
)
def test_pulumi_and_its_plugins_are_those_of_the_operators_platform(
    system: tuple[str, str], pulumi: str, plugin: str
) -> None:
    where = recipes.PLATFORMS[system]
    version = recipes.PULUMI
    assert pulumi_release(where).url.endswith(f"/pulumi-v{version}-{pulumi}.tar.gz")
    assert pulumi_release(where).checksums.endswith(f"/pulumi-{version}-checksums.txt"), "one list for all platforms"
    assert plugin_release("command", where).url.endswith(f"-{plugin}.tar.gz")


def test_the_platform_is_looked_up_where_the_program_runs() -> None:
    program = "import platform; platform.system, platform.machine = lambda: 'Darwin', lambda: 'arm64'\n"
    program += "from lab.tools import recipes\n"
    program += "print(recipes.by_name()['pulumi'].official.url, *(t.name for t in recipes.with_needs(['pulumi'])))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    url, *needed = ran.stdout.split()
    assert url.endswith("-darwin-arm64.tar.gz")
    assert needed == ["pulumi"], "nothing is built there, so no Go is needed"
