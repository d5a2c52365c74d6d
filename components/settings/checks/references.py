"""Names that one table uses and another one has to have."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from components.settings.problems import Problem
from components.settings.registry import Registry


def check_namespace(path: str, namespace: str, registry: Registry) -> Iterator[Problem]:
    """`namespace` is one whose pods get a sidecar."""
    known = registry.namespaces()
    if namespace not in known:
        yield Problem(
            path,
            f"{namespace!r}: is no namespace of the mesh, which has {listed(known)}; others go into mesh.namespaces",
        )


def check_app(path: str, namespace: str, app: str, registry: Registry, also: Collection[str] = ()) -> Iterator[Problem]:
    """`app`, or the Service of that name, is one of `namespace` or of `also`.

    Nothing is known of a namespace that others deploy to, and an unknown namespace is another check's.
    """
    known = {*registry.apps(namespace), *also}
    if namespace in registry.namespaces() and not registry.shared(namespace) and app not in known:
        yield Problem(
            path,
            f"{app!r}: is not in namespace {namespace}, which has {listed(known)}; a namespace that others deploy to "
            "goes into mesh.namespaces",
        )


def listed(names: Collection[str]) -> str:
    """Names for people, in order."""
    return ", ".join(sorted(names)) or "none"
