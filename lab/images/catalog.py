"""What each image holds. Names are those that k3s and Istio's charts ask for, so nothing in a cluster knows the difference.

pause, klipper-lb, helloworld and curl are stand-ins with the interface of the official image of that name; the others
hold the real program. A label in each image says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.images import userland
from lab.images.oci import Entry, File, Folder, Image, Link

ISTIO_HUB = "docker.io/istio"
"""Registry part of the Istio images: the charts' `global.hub`."""

PROXY_USER = 1337
"""The user whose traffic Istio's rules leave alone (istio: tools/istio-iptables, ProxyUID)."""

LABEL = "org.opencontainers.image.description"


@dataclass(frozen=True)
class Parts:
    """Folders with what the images besides Istio's are made from.

    Attributes:
        root: a Debian root file system with iptables, curl and ca-certificates.
        coredns: coredns.
        programs: pause, servicelb, helloworld.
    """

    root: Path
    coredns: Path
    programs: Path


@dataclass(frozen=True)
class IstioParts:
    """What the images of one Istio are made from.

    Attributes:
        tag: their tag: the charts' `global.tag`.
        root: a Debian root file system with iptables and ca-certificates.
        istio: folder with pilot-discovery, pilot-agent, packaging/envoy_bootstrap.json.
        envoy: folder with envoy.
    """

    tag: str
    root: Path
    istio: Path
    envoy: Path


def archives(parts: Parts) -> dict[str, list[Image]]:
    """Every image besides Istio's, by the name of the archive it is in. Every node needs the first."""
    return {
        "cluster": [pause(parts), klipper_lb(parts), coredns(parts)],
        "samples": [helloworld(parts, "v1"), helloworld(parts, "v2"), curl(parts)],
    }


def istio_archive(parts: IstioParts) -> list[Image]:
    """The images of Istio's pods."""
    return [pilot(parts), proxyv2(parts)]


def pause(parts: Parts) -> Image:
    """The sandbox of every pod (k3s: pkg/cli/cmds/const_linux.go, DefaultPauseImage)."""
    return Image(
        name="docker.io/rancher/mirrored-pause:3.6",
        layers=[[File("pause", parts.programs / "pause", 0o755)]],
        entrypoint=["/pause"],
        user="65535:65535",
        labels={LABEL: "stand-in for the official pause: same behaviour"},
    )


def klipper_lb(parts: Parts) -> Image:
    """What ServiceLB runs on each node (k3s: pkg/cloudprovider/servicelb.go, DefaultLBImage)."""
    return Image(
        name="docker.io/rancher/klipper-lb:v0.4.9",
        layers=[_network_layer(parts.root), [File("usr/bin/entry", parts.programs / "servicelb", 0o755)]],
        entrypoint=["/usr/bin/entry"],
        env=_PATH,
        labels={LABEL: "stand-in for the official klipper-lb: same environment, same rules"},
    )


def coredns(parts: Parts) -> Image:
    """The cluster's DNS server (k3s: manifests/coredns.yaml)."""
    # port 53 as an ordinary user: the pod adds NET_BIND_SERVICE, which only a root process keeps without file capabilities
    return Image(
        name="docker.io/rancher/mirrored-coredns-coredns:1.12.0",
        layers=[_base_layer(parts.root), [File("coredns", parts.coredns / "coredns", 0o755)]],
        entrypoint=["/coredns"],
        labels={LABEL: "CoreDNS with the plugins that k3s uses"},
    )


def pilot(parts: IstioParts) -> Image:
    """The control plane, istiod (istio: pilot/docker/Dockerfile.pilot)."""
    return Image(
        name=f"{ISTIO_HUB}/pilot:{parts.tag}",
        layers=[
            _base_layer(parts.root),
            [File("usr/local/bin/pilot-discovery", parts.istio / "pilot-discovery", 0o755)],
        ],
        entrypoint=["/usr/local/bin/pilot-discovery"],
        user=f"{PROXY_USER}:{PROXY_USER}",
        labels={LABEL: "istiod, built from Istio's module"},
    )


def proxyv2(parts: IstioParts) -> Image:
    """Sidecar, gateway and istio-init (istio: pilot/docker/Dockerfile.proxyv2)."""
    bootstrap = parts.istio / "packaging/envoy_bootstrap.json"
    return Image(
        name=f"{ISTIO_HUB}/proxyv2:{parts.tag}",
        layers=[
            _network_layer(parts.root),
            _envoy_layer(parts),
            [
                File("usr/local/bin/pilot-agent", parts.istio / "pilot-agent", 0o755),
                File("var/lib/istio/envoy/envoy_bootstrap_tmpl.json", bootstrap),
            ],
        ],
        entrypoint=["/usr/local/bin/pilot-agent"],
        user=f"{PROXY_USER}:{PROXY_USER}",
        env=_PATH,
        labels={LABEL: "Istio's agent with upstream Envoy, which lacks Istio's own filters"},
    )


def helloworld(parts: Parts, version: str) -> Image:
    """Istio's sample (istio: samples/helloworld)."""
    return Image(
        name=f"{ISTIO_HUB}/examples-helloworld-{version}:1.0",
        layers=[_base_layer(parts.root), [File("helloworld", parts.programs / "helloworld", 0o755)]],
        entrypoint=["/helloworld"],
        user="1000:1000",
        env={"SERVICE_VERSION": version},
        labels={LABEL: "stand-in for Istio's helloworld: same answer on /hello, and /headers"},
    )


def curl(parts: Parts) -> Image:
    """The client of the sample (istio: samples/curl): a shell, sleep and curl."""
    tools = ("bin/dash", "bin/sleep", "bin/cat", "bin/ls", "bin/env", "bin/grep", "bin/hostname", "bin/curl")
    return Image(
        name="docker.io/curlimages/curl:8.16.0",
        layers=[
            userland.merge(
                _base_layer(parts.root),
                userland.programs(parts.root, *(f"usr/{tool}" for tool in tools)),
                [Link("usr/bin/sh", "dash"), Folder("home/curl_user", 0o700, _CURL_USER)],
            )
        ],
        entrypoint=["/usr/bin/curl"],
        user=f"{_CURL_USER}:{_CURL_USER}",
        env=_PATH | {"HOME": "/home/curl_user"},
        labels={LABEL: "stand-in for the official curl: Debian's curl, a shell and sleep"},
    )


_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_CURL_USER = 100


def _base_layer(root: Path) -> Sequence[Entry]:
    """What any program expects: users, certificates, a place for temporary files."""
    return [
        *userland.MERGED_USR,
        *userland.users({"istio-proxy": PROXY_USER, "curl_user": _CURL_USER}),
        *userland.certificates(root),
        Folder("tmp", 0o1777),
        Folder("run"),
    ]


def _network_layer(root: Path) -> Sequence[Entry]:
    return userland.merge(_base_layer(root), userland.iptables(root))


def _envoy_layer(parts: IstioParts) -> Sequence[Entry]:
    return userland.with_libraries(parts.root, {"usr/local/bin/envoy": parts.envoy / "envoy"})
