"""The shell of `actions.artifacts` is run, by bash and by sh, with good files, damaged ones and none."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from actions import artifacts
from actions.artifacts import MachineArtifact, fetch_script, install_deb_script

GOOD = b"\x7fELF good\n"
DIGEST = hashlib.sha256(GOOD).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def run(
    script: str, path: str = os.environ["PATH"], shell: str = "bash", **env: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": path} | env
    return subprocess.run([shell, "-c", script], capture_output=True, text=True, env=environment, timeout=60)


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A mounted folder with one file and its checksum."""
    folder = tmp_path / "mounted here"
    folder.mkdir()
    (folder / "k3s").write_bytes(GOOD)
    (folder / "SHA256SUMS").write_text(f"{OTHER}  another\n{DIGEST}  k3s\n")
    return folder


@pytest.fixture(params=["bash", "sh"])
def shell(request: pytest.FixtureRequest) -> str:
    return request.param


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class Mirror:
    """An https server whose files are set by the test."""

    def __init__(self, url: str, authority: Path) -> None:
        self.url, self.authority = url, authority
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    certificate, key = _self_signed(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            body = made.files.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made = Mirror(f"https://127.0.0.1:{server.server_port}", certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "mirror.pem", folder / "mirror.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def test_a_file_under_a_mount_is_copied_with_its_mode(mount: Path, tmp_path: Path, shell: str) -> None:
    to = tmp_path / "new folder" / "k3s"
    ran = run(fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(to), mode="0755"), shell=shell)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert to.read_bytes() == GOOD
    assert to.stat().st_mode & 0o777 == 0o755
    assert names(to.parent) == ["k3s"]


def test_a_file_that_is_right_is_left_alone(mount: Path, tmp_path: Path, shell: str) -> None:
    to = tmp_path / "k3s"
    script = fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(to))
    run(script, shell=shell)
    before = to.stat()
    assert run(script, shell=shell).returncode == 0
    assert (to.stat().st_ino, to.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_wrong_file_in_place_is_replaced(mount: Path, tmp_path: Path, shell: str) -> None:
    to = tmp_path / "k3s"
    to.write_text("an older release")
    assert run(fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(to)), shell=shell).returncode == 0
    assert to.read_bytes() == GOOD


@pytest.mark.parametrize("link", [False, True])
def test_a_damaged_file_is_refused_and_what_was_there_stays(
    mount: Path, tmp_path: Path, shell: str, link: bool
) -> None:
    (mount / "k3s").write_bytes(b"damaged")
    to = tmp_path / "target" / "k3s"
    to.parent.mkdir()
    to.write_text("an older release")
    ran = run(fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(to), link=link) + "echo went on", shell=shell)
    assert ran.returncode == 1
    assert "went on" not in ran.stdout
    assert "k3s" in ran.stderr and DIGEST in ran.stderr
    assert names(to.parent) == ["k3s"]
    assert to.read_text() == "an older release"


def test_a_link_points_at_the_verified_file(mount: Path, tmp_path: Path, shell: str) -> None:
    to = tmp_path / "images" / "pause.tar"
    script = fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(to), link=True)
    for _ in range(2):
        assert run(script, shell=shell).returncode == 0
        assert to.readlink() == mount / "k3s"


def test_a_copy_takes_the_place_of_a_link(mount: Path, tmp_path: Path, shell: str) -> None:
    to = tmp_path / "k3s"
    to.symlink_to(mount / "k3s")
    assert run(fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(to)), shell=shell).returncode == 0
    assert not to.is_symlink()
    assert to.read_bytes() == GOOD


@pytest.mark.parametrize(
    ("sums", "says"),
    [
        (None, "no SHA256SUMS beside"),
        (f"{DIGEST}  another\n{DIGEST}  k3s.old\n", "no line for it"),
        ("k3s\n", "no line"),
    ],
)
def test_a_file_without_a_checksum_is_refused(
    mount: Path, tmp_path: Path, shell: str, sums: str | None, says: str
) -> None:
    (mount / "SHA256SUMS").unlink()
    if sums:
        (mount / "SHA256SUMS").write_text(sums)
    ran = run(fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(tmp_path / "k3s")), shell=shell)
    assert ran.returncode == 1
    assert says in ran.stderr
    assert not (tmp_path / "k3s").exists()


@pytest.mark.parametrize("line", [f"{DIGEST} *k3s\n", f"{DIGEST}  ./dist/k3s\n", f"{DIGEST}  k3s"])
def test_checksum_lines_as_publishers_write_them(mount: Path, tmp_path: Path, shell: str, line: str) -> None:
    (mount / "SHA256SUMS").write_text(f"{OTHER}  xk3s\n{line}")
    assert run(fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(tmp_path / "k3s")), shell=shell).returncode == 0


def test_a_mount_that_comes_late_is_waited_for(mount: Path, tmp_path: Path, shell: str) -> None:
    (mount / "k3s").rename(tmp_path / "later")
    threading.Timer(1.2, lambda: (tmp_path / "later").rename(mount / "k3s")).start()
    assert run(fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(tmp_path / "k3s")), shell=shell).returncode == 0


def test_a_mount_that_never_comes_is_an_error(tmp_path: Path, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = fetch_script(MachineArtifact(path="/nowhere/k3s"), str(tmp_path / "k3s"))
    quick = script.replace(f"-lt {artifacts.MOUNT_WAIT_SECONDS} ]", "-lt 1 ]")
    assert quick != script
    ran = run(quick, shell=shell)
    assert ran.returncode == 1
    assert "is its folder mounted?" in ran.stderr


def test_a_url_is_fetched_and_verified(mirror: Mirror, tmp_path: Path, shell: str) -> None:
    mirror.files["/v1/k3s"] = GOOD
    script = fetch_script(MachineArtifact(url=f"{mirror.url}/v1/k3s", sha256=DIGEST), str(tmp_path / "to" / "k3s"))
    for _ in range(2):
        ran = run(script, shell=shell, CURL_CA_BUNDLE=str(mirror.authority))
        assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "to" / "k3s").read_bytes() == GOOD
    assert mirror.asked == ["/v1/k3s"], "a file that is right is not fetched again"


def test_a_replaced_download_is_refused(mirror: Mirror, tmp_path: Path, shell: str) -> None:
    mirror.files["/k3s"] = b"malware"
    script = fetch_script(MachineArtifact(url=f"{mirror.url}/k3s", sha256=DIGEST), str(tmp_path / "to" / "k3s"))
    ran = run(script, shell=shell, CURL_CA_BUNDLE=str(mirror.authority))
    assert ran.returncode == 1
    assert f"should be {DIGEST}" in ran.stderr
    assert names(tmp_path / "to") == []


def test_a_missing_download_says_where_from(mirror: Mirror, tmp_path: Path, shell: str) -> None:
    script = fetch_script(MachineArtifact(url=f"{mirror.url}/gone", sha256=DIGEST), str(tmp_path / "k3s"))
    ran = run(script, shell=shell, CURL_CA_BUNDLE=str(mirror.authority))
    assert ran.returncode == 1
    assert f"cannot be downloaded from {mirror.url}/gone" in ran.stderr


@pytest.mark.parametrize(
    "sums", [f"{OTHER}  k3s-arm64\n{DIGEST}  k3s\n", f"{DIGEST}\n", f"{DIGEST}  build/out/renamed.bin\n"]
)
def test_the_publishers_checksum_file(mirror: Mirror, tmp_path: Path, shell: str, sums: str) -> None:
    mirror.files |= {"/k3s": GOOD, "/sums.txt": sums.encode()}
    artifact = MachineArtifact(url=f"{mirror.url}/k3s", checksums=f"{mirror.url}/sums.txt")
    ran = run(fetch_script(artifact, str(tmp_path / "to" / "k3s")), shell=shell, CURL_CA_BUNDLE=str(mirror.authority))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert names(tmp_path / "to") == ["k3s"]


@pytest.mark.parametrize(("machine", "content"), [("x86_64", b"for amd64"), ("aarch64", b"for arm64")])
def test_the_machine_chooses_by_its_architecture(tmp_path: Path, shell: str, machine: str, content: bytes) -> None:
    for arch in ("amd64", "arm64"):
        (tmp_path / arch).write_bytes(f"for {arch}".encode())
    lines = [f"{hashlib.sha256((tmp_path / a).read_bytes()).hexdigest()}  {a}\n" for a in ("amd64", "arm64")]
    (tmp_path / "SHA256SUMS").write_text("".join(lines))
    uname = tmp_path / "bin" / "uname"
    uname.parent.mkdir()
    uname.write_text(f"#!/bin/sh\necho {machine}\n")
    uname.chmod(0o755)
    artifact = MachineArtifact(path=f"{tmp_path}/amd64", arm64=MachineArtifact(path=f"{tmp_path}/arm64"))
    ran = run(fetch_script(artifact, str(tmp_path / "to")), path=f"{uname.parent}:{os.environ['PATH']}", shell=shell)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "to").read_bytes() == content


def test_it_leaves_the_stdin_of_the_script_around_it_alone(mount: Path, tmp_path: Path, shell: str) -> None:
    script = (
        "set -eu\n"
        + fetch_script(MachineArtifact(path=f"{mount}/k3s"), str(tmp_path / "k3s"))
        + "IFS= read -r token; echo $token"
    )
    ran = subprocess.run([shell, "-c", script], input="sesame\n", capture_output=True, text=True, timeout=60)
    assert ran.stdout == "sesame\n"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A stand-in for dpkg-query and apt-get that records what is asked; `available` decides whether installing works."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "dpkg-query").write_text(f"#!/bin/sh\n[ -e {tmp_path}/is-installed ] && printf installed\n")
    (folder / "apt-get").write_text(f"""#!/bin/sh
for word; do case $word in update | install) verb=$word ;; esac; done
echo $verb >>{tmp_path}/asked
if [ $verb = update ]; then touch {tmp_path}/available; fi
if [ $verb = install ]; then [ -e {tmp_path}/available ] && touch {tmp_path}/is-installed; fi
""")
    for tool in folder.iterdir():
        tool.chmod(0o755)
    return folder


@pytest.mark.parametrize(("available", "asked"), [(True, "install\n"), (False, "install\nupdate\ninstall\n")])
def test_a_package_is_installed_once(
    mount: Path, packages: Path, tmp_path: Path, available: bool, asked: str, shell: str
) -> None:
    if available:
        (tmp_path / "available").touch()
    script = install_deb_script(MachineArtifact(path=f"{mount}/k3s"), "istio-sidecar").replace(
        "/var/lib", str(tmp_path)
    )
    for _ in range(2):
        ran = run(script, path=f"{packages}:{os.environ['PATH']}", shell=shell)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "asked").read_text() == asked
    assert (tmp_path / "istio-vms" / "istio-sidecar.deb").read_bytes() == GOOD


def test_another_package_of_the_same_name_is_installed_over_it(
    mount: Path, packages: Path, tmp_path: Path, shell: str
) -> None:
    (tmp_path / "available").touch()
    script = install_deb_script(MachineArtifact(path=f"{mount}/k3s"), "istio-sidecar").replace(
        "/var/lib", str(tmp_path)
    )
    run(script, path=f"{packages}:{os.environ['PATH']}", shell=shell)
    (mount / "k3s").write_bytes(b"newer")
    (mount / "SHA256SUMS").write_text(f"{hashlib.sha256(b'newer').hexdigest()}  k3s\n")
    assert run(script, path=f"{packages}:{os.environ['PATH']}", shell=shell).returncode == 0
    assert (tmp_path / "asked").read_text() == "install\ninstall\n"


PLAN = """Inst libmnl0 (1.0.4 Debian:12 [amd64])
Inst sudo [1.9.13] (1.9.14 Debian:12 [amd64])
Inst istio-sidecar (1.30 local-deb [amd64])
Conf libmnl0 (1.0.4 Debian:12 [amd64])
"""


@pytest.mark.parametrize("fails", [None, "install"])
def test_on_an_existing_host_what_comes_along_is_listed_before_it_does(
    mount: Path, packages: Path, tmp_path: Path, shell: str, fails: str | None
) -> None:
    (packages / "apt-get").write_text(f"""#!/bin/sh
case " $* " in
  *" -s "*) printf '%s' '{PLAN}' ;;
  *" install "*) {"exit 100" if fails else f"touch {tmp_path}/is-installed"} ;;
esac
""")
    artifact = MachineArtifact(path=f"{mount}/k3s")
    script = install_deb_script(artifact, "istio-sidecar", existing=True).replace("/var/lib", str(tmp_path))
    for _ in range(1 if fails else 2):
        ran = run(script, path=f"{packages}:{os.environ['PATH']}", shell=shell)
        assert (ran.returncode == 0) == (fails is None)
    listed = (tmp_path / "istio-vms/istio-sidecar.deb.brings").read_text()
    assert listed == "libmnl0\nistio-sidecar\n", "what was there before stays there"


def test_a_file_that_an_existing_host_lacks_is_not_waited_for(tmp_path: Path, shell: str) -> None:
    script = install_deb_script(MachineArtifact(path="/nowhere/s.deb"), "istio-sidecar", existing=True)
    ran = run(script.replace("/var/lib", str(tmp_path)), shell=shell)
    assert ran.returncode == 1
    assert "/nowhere/s.deb is not there: the host's owner puts it there" in ran.stderr


def test_a_package_that_cannot_be_installed_is_an_error(
    mount: Path, packages: Path, tmp_path: Path, shell: str
) -> None:
    (packages / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    script = install_deb_script(MachineArtifact(path=f"{mount}/k3s"), "istio-sidecar").replace(
        "/var/lib", str(tmp_path)
    )
    ran = run(script + "echo went on", path=f"{packages}:{os.environ['PATH']}", shell=shell)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "istio-sidecar: apt-get cannot install" in ran.stderr


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": "https://x/k", "path": "/k", "sha256": DIGEST},
        {"url": "https://x/k"},
        {"url": "http://x/k", "sha256": DIGEST},
        {"url": "https://x/k", "sha256": "abc"},
        {"url": "https://x/k", "sha256": DIGEST, "checksums": "https://x/s"},
        {"path": "/k", "sha256": DIGEST},
        {"path": "k"},
    ],
)
def test_what_cannot_be_verified_is_no_artifact(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        MachineArtifact(**fields)


def test_nothing_in_a_name_reaches_the_shell(tmp_path: Path, shell: str) -> None:
    folder = tmp_path / "a 'quoted' $(touch owned) `touch owned`"
    folder.mkdir()
    (folder / "k 'x' $y").write_bytes(GOOD)
    (folder / "SHA256SUMS").write_text(f"{DIGEST}  k 'x' $y\n")
    script = fetch_script(MachineArtifact(path=f"{folder}/k 'x' $y"), str(tmp_path / "to $z 'q'"))
    ran = subprocess.run([shell, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "to $z 'q'").read_bytes() == GOOD
    assert not (tmp_path / "owned").exists()
