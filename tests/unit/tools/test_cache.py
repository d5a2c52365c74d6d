"""The cache: what is there is whole."""

import hashlib
import json
from pathlib import Path

import pytest

from lab.tools.cache import RECEIPT, Slot, cache_root, replace_link


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".cache" / "istio-vms"


def test_the_cache_is_where_the_user_wants_it(cache: Path) -> None:
    assert cache_root() == cache


def test_a_tool_is_there_only_when_finished() -> None:
    slot = Slot("probe", "1.0", "abc")
    slot.partial.mkdir(parents=True)
    (slot.partial / "program").write_text("half")
    assert slot.receipt() is None
    assert not slot.folder.exists()
    receipt = slot.finish("built", 1.234)
    assert slot.receipt() == receipt
    assert receipt.seconds == 1.2
    assert receipt.files == {"program": hashlib.sha256(b"half").hexdigest()}
    assert not slot.partial.exists()


def test_a_folder_without_receipt_is_not_a_tool_and_is_replaced() -> None:
    slot = Slot("probe", "1.0", "abc")
    slot.folder.mkdir(parents=True)
    (slot.folder / "left over").write_text("x")
    assert slot.receipt() is None
    slot.partial.mkdir()
    slot.finish("official", 1)
    assert sorted(path.name for path in slot.folder.iterdir()) == [RECEIPT]


def test_links_are_not_hashed_and_files_below_folders_are() -> None:
    slot = Slot("probe", "1.0", "abc")
    (slot.partial / "charts/base").mkdir(parents=True)
    (slot.partial / "charts/base/Chart.yaml").write_text("name: base\n")
    (slot.partial / "link").symlink_to("charts")
    slot.finish("built", 0)
    assert list(json.loads((slot.folder / RECEIPT).read_text())["files"]) == ["charts/base/Chart.yaml"]


def test_a_link_is_replaced_in_place(tmp_path: Path) -> None:
    link = tmp_path / "bin/tool"
    replace_link(link, Path("/first"))
    replace_link(link, Path("/second"))
    assert link.readlink() == Path("/second")
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["tool"]
