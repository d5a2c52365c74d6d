"""What stands: everything that `make status` looks at, by what it promises."""

from __future__ import annotations

from collections.abc import Iterator

from ops.finding import Finding as Found
from verify.environment import Environment
from verify.finding import Finding, found

PROMISES = {
    "everything answers": ("not-known",),
    "machines and nodes are the settings'": (
        "machine-not-running",
        "node-not-ready",
        "node-version",
    ),
    "objects are as they were applied": ("object-gone", "object-changed", "release-incomplete", "release-unfinished"),
    "one revision is in use": ("istiod-of-nobody", "istiod-not-ready", "proxy-of-other-revision"),
    "every proxy has taken over what istiod sent": ("proxy-not-connected", "proxy-not-synced", "pod-not-ready"),
    "cluster and VMs have one root and one trust domain": ("member-root", "member-identity", "trust-domain"),
    "every VM is a member with a valid certificate": (
        "member-not-connected",
        "member-unhealthy",
        "member-certificate",
    ),
    "gateways are where VMs look for them": ("gateway-without-address", "gateway-moved", "gateway-ports"),
    "nothing is nobody's": (
        "machine-of-nobody",
        "node-of-nobody",
        "entry-of-nobody",
        "group-of-nobody",
        "operation-pending",
    ),
    "every pod of the mesh has the sidecar of its revision": ("pod-without-sidecar",),
}
"""Each with the findings of `ops.status.findings` that break it."""


def run(env: Environment) -> Iterator[Finding]:
    """One look at everything; a finding that no promise names breaks the first one."""
    findings = env.look().findings
    named = {kind for kinds in PROMISES.values() for kind in kinds}
    for i, (promise, kinds) in enumerate(PROMISES.items()):
        broken = [one for one in findings if one.id in kinds or (i == 0 and one.id not in named)]
        yield found(promise, f"make status: no finding of {', '.join(kinds)}", _said(broken), not broken)


def _said(findings: list[Found]) -> str:
    return "; ".join(map(str, findings)) or "none"
