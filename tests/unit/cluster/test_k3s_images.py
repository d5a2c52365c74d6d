"""Image archives on a node: which are there, and when a k3s that runs is given them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from actions.artifacts import MachineArtifact
from tests.unit.cluster.test_k3s_files import Node, archive

FOLDER = "/var/lib/rancher/k3s/agent/images"
CTR = """\
#!/bin/sh
[ "$1" != --version ] || { printf 'k3s version v1.32.0+k3s1 (cca8faca)\\n'; exit; }
case "$0" in */ctr) ;; *) exec [ -e "$FAKE/ready" ] ;; esac
case "$6" in
  ls) echo "REF TYPE DIGEST SIZE"; cat "$FAKE/images" 2>/dev/null ;;
  import) [ ! -e "$FAKE/unreadable" ] || exit 1; echo "example.org/$(basename "$8") oci sha256:1 1" >>"$FAKE/images" ;;
esac
echo "$*" >>"$FAKE/ctr.log"
"""


@pytest.fixture(params=["server", "agent"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    """A node that runs, with one archive."""
    made = Node.make(tmp_path, request.param)
    (tmp_path / "artifacts/k3s").write_text(CTR)
    Node.sums(tmp_path / "artifacts")
    assert made.run().returncode == 0
    made.calls("systemctl")
    return made


def give(node: Node, *names: str) -> None:
    """Settings with these archives; those that are not there are made."""
    artifacts = Path(node.spec.binary.path or "").parent
    for name in names:
        if not (artifacts / name).exists():
            archive(artifacts / name, name)
    Node.sums(artifacts)
    images = tuple(MachineArtifact(path=str(artifacts / name)) for name in names)
    node.spec = dataclasses.replace(node.spec, images=images)


def imported(node: Node) -> list[str]:
    return [Path(call.split()[-1]).name for call in node.calls("ctr") if call.split()[5] == "import"]


def there(node: Node) -> list[str]:
    return sorted(path.name for path in node.file(FOLDER).iterdir())


def test_what_k3s_was_started_with_is_not_loaded_again(node: Node) -> None:
    assert imported(node) == []
    assert node.run().returncode == 0
    assert imported(node) == []


@pytest.mark.parametrize(("since", "loaded"), [("2126-01-01", []), ("2001-01-01", ["istio-vms-00.tar"])])
def test_of_what_an_earlier_version_put_there_only_what_came_after_k3s_started_is_loaded(
    node: Node, since: str, loaded: list[str]
) -> None:
    node.file("/run/istio-vms-k3s.images").unlink()
    (node.fake / "since").write_text(since)
    assert node.run().returncode == 0
    assert "restart --no-block k3s" not in node.calls("systemctl")
    assert imported(node) == loaded


def test_a_running_k3s_is_given_new_archives_and_is_not_restarted(node: Node) -> None:
    give(node, "image.tar", "second.tar.gz", "third.tgz")
    ran = node.run()
    assert ran.returncode == 0, ran.stderr
    assert there(node) == ["istio-vms-00.tar", "istio-vms-01.tar.gz", "istio-vms-02.tar.gz"]
    assert "restart --no-block k3s" not in node.calls("systemctl")
    calls = node.calls("ctr")
    assert [call for call in calls if " label " in call] == [
        f"-a /run/k3s/containerd/containerd.sock -n k8s.io images label example.org/{name} "
        "io.cattle.k3s.pinned=pinned io.cri-containerd.pinned=pinned"
        for name in ("istio-vms-01.tar.gz", "istio-vms-02.tar.gz")
    ]
    assert node.run().returncode == 0
    assert imported(node) == []


def test_a_node_of_an_earlier_version_is_left_running(node: Node) -> None:
    # That kept no binary to look at first, and did not note what was loaded.
    binary = node.file("/usr/local/bin/k3s")
    before = binary.stat()
    node.file("/usr/local/lib/istio-vms/k3s/k3s").unlink()
    node.file("/run/istio-vms-k3s.images").unlink()
    assert node.run().returncode == 0
    assert "restart --no-block k3s" not in node.calls("systemctl")
    assert (binary.stat().st_ino, binary.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert imported(node) == ["istio-vms-00.tar"]


def test_an_archive_with_other_content_is_loaded(node: Node) -> None:
    archive(Path(node.spec.images[0].path or ""), "something else")
    give(node, "image.tar")
    assert node.run().returncode == 0
    assert imported(node) == ["istio-vms-00.tar"]


def test_an_archive_that_the_settings_do_not_have_any_more_goes(node: Node) -> None:
    give(node, "image.tar", "second.tar.gz")
    assert node.run().returncode == 0
    give(node)
    node.file(f"{FOLDER}/of-someone-else.tar").write_text("")
    assert node.run().returncode == 0
    assert there(node) == ["of-someone-else.tar"]


def test_a_load_that_was_cut_off_is_made_good(node: Node) -> None:
    give(node, "image.tar", "second.tar")
    (node.fake / "unreadable").touch()
    ran = node.run()
    assert ran.returncode == 1
    assert "istio-vms-01.tar (second.tar): containerd cannot load it" in ran.stderr
    (node.fake / "unreadable").unlink()
    assert node.run().returncode == 0
    assert imported(node) == ["istio-vms-01.tar"]


@pytest.mark.parametrize("name", ["plain.tar", "packed.tar.gz", "packed.tar.zst"])
@pytest.mark.parametrize("content", ["nothing of the kind", "no images", "compressed otherwise"])
def test_what_is_no_archive_of_images_is_named_before_k3s_is_touched(node: Node, name: str, content: str) -> None:
    path = Path(node.spec.binary.path or "").parent / name
    if content == "nothing of the kind":
        path.write_text("<html>")
    elif content == "no images":
        archive(path.with_name("made.tar" if name.endswith(".zst") else name), "x", member="readme.txt")
        if name.endswith(".zst"):
            path.with_name("made.tar").rename(path)
    else:
        made = path.with_name("made.tar.gz" if name == "plain.tar" else "made.tar")
        archive(made, "x")
        made.rename(path)
    give(node, "image.tar", name)
    node.spec = dataclasses.replace(node.spec, config={"debug": True})
    ran = node.run()
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == (
        f"node: {name} of cluster.images is no archive of images, or not compressed as its name says; k3s was left as it runs"
    )
    assert node.calls("systemctl") == []
    assert imported(node) == []
