"""The folder that machines see."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from lab.tools import artifacts, recipes
from lab.tools.cache import Slot, artifacts_directory


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def finished(name: str, files: dict[str, str], version: str = "1") -> artifacts.Finished:
    slot = Slot(name, version, "key")
    for path, text in files.items():
        (slot.partial / path).parent.mkdir(parents=True, exist_ok=True)
        (slot.partial / path).write_text(text)
    return artifacts.Finished(slot.folder, slot.finish("built", 0))


def k3s(text: str = "k3s", version: str = "1") -> dict[str, artifacts.Finished]:
    return {
        "k3s": finished("k3s", {"k3s": text}, version),
        "k3s-tools": finished("k3s-tools", {"k3s-tools.tar": "tar"}, version),
    }


def verified(folder: str) -> int:
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=artifacts_directory() / folder
    )
    return checked.returncode


def test_files_are_whole_files_with_sums_that_sha256sum_verifies() -> None:
    artifacts.publish(k3s())
    program = artifacts_directory() / "k3s/k3s"
    assert program.read_text() == "k3s"
    assert not program.is_symlink()
    assert verified("k3s") == 0
    program.unlink()
    program.write_text("damaged")
    assert verified("k3s") != 0


def test_a_folder_appears_only_when_all_its_tools_are_there() -> None:
    artifacts.publish({"k3s": finished("k3s", {"k3s": "k3s"})})
    assert not (artifacts_directory() / "k3s").exists()


def test_a_new_version_replaces_the_old_and_leaves_open_files_alone() -> None:
    artifacts.publish(k3s("old"))
    with (artifacts_directory() / "k3s/k3s").open() as running:
        artifacts.publish(k3s("new", "2"))
        assert running.read() == "old"
    assert (artifacts_directory() / "k3s/k3s").read_text() == "new"
    assert verified("k3s") == 0


def test_a_lost_file_comes_back() -> None:
    tools = k3s()
    artifacts.publish(tools)
    (artifacts_directory() / "k3s/k3s-tools.tar").unlink()
    artifacts.publish(tools)
    assert verified("k3s") == 0


def test_charts_keep_their_folders_and_lose_what_the_new_version_lacks() -> None:
    files = {"charts/base/Chart.yaml": "b", "charts/istiod/templates/old.yaml": "o", "pilot-agent": "p"}
    artifacts.publish({"istio": finished("istio", files)})
    charts = artifacts_directory() / "istio/charts"
    assert (charts / "istiod/templates/old.yaml").read_text() == "o"
    (charts / "istiod/mine.yaml").write_text("not ours")
    artifacts.publish({"istio": finished("istio", {"charts/base/Chart.yaml": "b2"}, "2")})
    assert (charts / "base/Chart.yaml").read_text() == "b2"
    assert not (charts / "istiod/templates").exists()
    assert (charts / "istiod/mine.yaml").exists()
    digest = hashlib.sha256(b"b2").hexdigest()
    assert (charts / "SHA256SUMS").read_text() == f"{digest}  base/Chart.yaml\n"


def test_what_is_optional_has_a_folder_and_is_never_missed() -> None:
    files = {
        "istio-sidecar-next": "istio-sidecar.deb",
        "istio-images-next": "istio.tar",
        "istio-next": "charts/base/Chart.yaml",
    }
    artifacts.publish({tool: finished(tool, {path: tool}) for tool, path in files.items()})
    assert (artifacts_directory() / "istio-next/istio.tar").read_text() == "istio-images-next"
    assert (artifacts_directory() / "istio-next/charts/base/Chart.yaml").exists()
    (artifacts_directory() / "istio-next/istio.tar").unlink()
    assert not [problem for problem in artifacts.problems() if "istio-next" in problem]


def test_the_optional_folders_are_those_of_optional_tools() -> None:
    tools = {folder: {tool for tool, _ in entries.values()} for folder, entries in artifacts.FOLDERS.items()}
    optional = {tool.name for tool in recipes.TOOLS if tool.optional}
    assert {folder for folder, names in tools.items() if names & optional} == set(artifacts.OPTIONAL)
    assert {name for names in tools.values() for name in names} <= set(recipes.by_name())


def test_problems_name_what_is_gone() -> None:
    assert "artifacts/k3s is missing" in artifacts.problems()
    artifacts.publish(k3s())
    (artifacts_directory() / "k3s/k3s").unlink()
    assert "artifacts/k3s/k3s is missing" in artifacts.problems()
    assert "artifacts/k3s is missing" not in artifacts.problems()
