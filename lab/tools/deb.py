"""`istio-sidecar.deb`, the package that makes a Debian or Ubuntu machine able to join the mesh.

Same files, maintainer script, dependencies and configuration files as the official one (istio: tools/packaging/packaging.mk).
The data is not compressed: a machine unpacks it in a second and a half less.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.tools.job import Job

BIN = "usr/local/bin"
ENVOY_FOLDER = "var/lib/istio/envoy"

CONTROL = """\
Package: istio-sidecar
Version: {version}
License: Apache
Vendor: istio.io
Architecture: amd64
Maintainer: istio@istio.io
Installed-Size: {kib}
Depends: iproute2, iptables, sudo, hostname
Section: default
Priority: optional
Homepage: http://istio.io
Description: Istio Sidecar
"""


def package_version(version: str) -> str:
    """Debian's version of an Istio version, by Istio's own rule: `1.30-alpha.20260826` -> `1.30alpha.20260826`."""
    return version.replace("-", "", 1)


def build(job: Job, version: str, istio: Path) -> None:
    """Make the package in the job's folder, from the folder of an istio tool and the envoy tool."""
    envoy = job.needs["envoy"]
    packaging = istio / "packaging"
    tree = job.folder / ".tree"
    for place, source, mode in (
        (f"{BIN}/envoy", envoy / "envoy", 0o755),
        (f"{BIN}/pilot-agent", istio / "pilot-agent", 0o755),
        (f"{BIN}/istio-start.sh", packaging / "istio-start.sh", 0o755),
        ("lib/systemd/system/istio.service", packaging / "istio.service", 0o644),
        (f"{ENVOY_FOLDER}/sidecar.env", packaging / "sidecar.env", 0o644),
        (f"{ENVOY_FOLDER}/envoy_bootstrap_tmpl.json", packaging / "envoy_bootstrap.json", 0o644),
        ("DEBIAN/postinst", packaging / "postinst.sh", 0o755),
    ):
        _copy(source, tree / place, mode)
    kib = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    (tree / "DEBIAN/control").write_text(CONTROL.format(version=package_version(version), kib=kib))
    (tree / "DEBIAN/conffiles").write_text(f"/{ENVOY_FOLDER}/envoy_bootstrap_tmpl.json\n/{ENVOY_FOLDER}/sidecar.env\n")
    for folder in tree.rglob("*/"):
        folder.chmod(0o755)
    job.run(
        ["dpkg-deb", "--build", "--root-owner-group", "-Znone", tree, job.folder / "istio-sidecar.deb"],
        cwd=job.folder,
        env={"SOURCE_DATE_EPOCH": "0"},  # the same package for the same files
    )
    shutil.rmtree(tree)


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
