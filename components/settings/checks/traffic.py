"""Traffic: the Services that are divided, and the routes between their versions."""

from __future__ import annotations

from collections.abc import Iterator

from components.settings.checks.references import check_app, check_namespace, listed
from components.settings.problems import PROJECT, Problem, duplicates
from components.settings.registry import Registry
from components.settings.tables import TrafficSettings

_HTTP = ("http", "http2", "grpc")


def check_traffic(traffic: tuple[TrafficSettings, ...], registry: Registry) -> Iterator[Problem]:
    """Each Service is divided once, exists or is made, and every request has somewhere to go."""
    root = f"{PROJECT}:traffic"
    yield from duplicates(
        ((f"{root}[{i}].service", f"{wanted.namespace}/{wanted.service}") for i, wanted in enumerate(traffic)),
        "this Service",
    )
    for i, wanted in enumerate(traffic):
        at = f"{root}[{i}]"
        yield from check_namespace(f"{at}.namespace", wanted.namespace, registry)
        yield from _check_service(at, wanted, registry)
        yield from _check_protocol(at, wanted, registry)
        yield from _check_versions(at, wanted, registry)
        yield from _check_routes(at, wanted)
        yield from _check_outliers(at, wanted)


def _check_service(at: str, wanted: TrafficSettings, registry: Registry) -> Iterator[Problem]:
    if (wanted.app is None) != (wanted.port is None):
        missing = "port" if wanted.app else "app"
        yield Problem(f"{at}.{missing}", "missing; app and port go together: with both, the Service is made")
    if wanted.app:
        yield from check_app(f"{at}.app", wanted.namespace, wanted.app, registry)
        if wanted.service in registry.apps(wanted.namespace):
            yield Problem(
                f"{at}.service",
                f"{wanted.service!r}: is a Service of the stack already; remove app and port, or choose another name",
            )
    elif not wanted.port:
        yield from check_app(f"{at}.service", wanted.namespace, wanted.service, registry)


def _check_protocol(at: str, wanted: TrafficSettings, registry: Registry) -> Iterator[Problem]:
    """On any other port nothing of this would happen, without a word."""
    ports = (wanted.port,) if wanted.port else registry.ports(wanted.namespace, wanted.service)
    if ports and not any(port.name.split("-")[0] in _HTTP for port in ports):
        path = f"{at}.port.name" if wanted.port else f"{at}.service"
        yield Problem(
            path,
            f"{listed([port.name for port in ports])}: requests are seen on ports of HTTP and gRPC only, whose names begin with http, "
            "http2 or grpc",
        )


def _check_versions(at: str, wanted: TrafficSettings, registry: Registry) -> Iterator[Problem]:
    """A version that nothing of the app has would answer its share of the calls with 503."""
    yield from duplicates(((f"{at}.versions[{i}]", name) for i, name in enumerate(wanted.versions)), "this version")
    app = wanted.app or wanted.service
    known = registry.apps(wanted.namespace).get(app)
    if known is None or registry.shared(wanted.namespace):
        return
    for i, version in enumerate(wanted.versions):
        if version not in known:
            yield Problem(f"{at}.versions[{i}]", f"{version!r}: app {app} has versions {listed(known)}")


def _check_routes(at: str, wanted: TrafficSettings) -> Iterator[Problem]:
    last = len(wanted.routes) - 1
    for i, route in enumerate(wanted.routes):
        path = f"{at}.routes[{i}]"
        if route.headers and i == last:
            yield Problem(path, "has headers; the last route should have none, for the requests that are left")
        if not route.headers and i != last:
            yield Problem(path, "has no headers, which takes every request that is left; should be the last route")
        for version in sorted(set(route.shares) - set(wanted.versions)):
            yield Problem(f"{path}.shares.{version}", f"should be one of versions: {listed(wanted.versions)}")
        if sum(route.shares.values()) != 100:
            yield Problem(f"{path}.shares", f"{route.shares}: add up to {sum(route.shares.values())}; should be 100")


def _check_outliers(at: str, wanted: TrafficSettings) -> Iterator[Problem]:
    reached = {version for route in wanted.routes for version, share in route.shares.items() if share}
    for version in sorted(set(wanted.outliers) - reached):
        yield Problem(f"{at}.outliers.{version}", f"should be a version that a route sends to: {listed(reached)}")
