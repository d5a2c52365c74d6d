"""Programs out of wheels, and the sidecar's package."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from lab.tools import deb
from lab.tools.job import Job, Processes, ToolError
from lab.tools.wheels import Wheel


def job(folder: Path, **needs: Path) -> Job:
    folder.mkdir(exist_ok=True)
    return Job(folder, needs, Path("go"), 1, folder.parent / "log", Processes())


def test_wanted_files_of_a_wheel_get_their_places_and_modes(tmp_path: Path) -> None:
    making = job(tmp_path / "tool")
    with zipfile.ZipFile(making.folder / "probe-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("probe/_bin/probe", b"\x7fELF...")
        wheel.writestr("go/VERSION", "go1")
        wheel.writestr("go/bin/go", b"#!/bin/sh\n")
        wheel.writestr("probe/__init__.py", "")
    Wheel("probe==1", "0" * 64, {"probe/_bin/probe": "probe", "go/": "go/"}).build(making)
    modes = {
        str(p.relative_to(making.folder)): p.stat().st_mode & 0o777 for p in making.folder.rglob("*") if p.is_file()
    }
    assert modes == {"probe": 0o755, "go/VERSION": 0o644, "go/bin/go": 0o755}


def test_a_wheel_without_the_program_is_an_error(tmp_path: Path) -> None:
    making = job(tmp_path / "tool")
    with zipfile.ZipFile(making.folder / "probe-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("other", "")
    with pytest.raises(ToolError, match="probe==1 holds no program"):
        Wheel("probe==1", "0" * 64, {"bin/program": "program"}).build(making)


def test_the_package_version_follows_istios_rule() -> None:
    assert deb.package_version("1.30-alpha.20260826") == "1.30alpha.20260826"
    assert deb.package_version("1.31.2") == "1.31.2"


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not on this machine")
def test_the_package_has_the_official_files_fields_and_scripts(tmp_path: Path) -> None:
    istio, envoy = tmp_path / "istio", tmp_path / "envoy"
    for path in ("pilot-agent", *(f"packaging/{n}" for n in ("istio-start.sh", "istio.service", "sidecar.env"))):
        (istio / path).parent.mkdir(parents=True, exist_ok=True)
        (istio / path).write_text(path)
    (istio / "packaging/envoy_bootstrap.json").write_text("{}")
    (istio / "packaging/postinst.sh").write_text("#!/bin/bash\n")
    envoy.mkdir()
    (envoy / "envoy").write_text("envoy")
    archives: list[bytes] = []
    for name in ("a", "b"):
        deb.build(job(tmp_path / name, envoy=envoy), "1.32-alpha.1", istio)
        archives.append((tmp_path / name / "istio-sidecar.deb").read_bytes())
    assert archives[0] == archives[1]  # the same files give the same package

    package = tmp_path / "a/istio-sidecar.deb"
    fields = subprocess.check_output(["dpkg-deb", "--field", package], text=True)
    assert "Package: istio-sidecar\nVersion: 1.32alpha.1\n" in fields
    assert "Depends: iproute2, iptables, sudo, hostname\n" in fields
    listed = subprocess.check_output(["dpkg-deb", "--contents", package], text=True).splitlines()
    files = {words[5]: words[0] for line in listed if not (words := line.split())[0].startswith("d")}
    assert files == {
        "./usr/local/bin/envoy": "-rwxr-xr-x",
        "./usr/local/bin/pilot-agent": "-rwxr-xr-x",
        "./usr/local/bin/istio-start.sh": "-rwxr-xr-x",
        "./lib/systemd/system/istio.service": "-rw-r--r--",
        "./var/lib/istio/envoy/sidecar.env": "-rw-r--r--",
        "./var/lib/istio/envoy/envoy_bootstrap_tmpl.json": "-rw-r--r--",
    }
    conffiles = subprocess.check_output(["dpkg-deb", "--info", package, "conffiles"], text=True).split()
    assert sorted(conffiles) == [
        "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json",
        "/var/lib/istio/envoy/sidecar.env",
    ]
