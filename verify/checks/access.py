"""Who may reach what: mutual TLS, authorization, the east-west gateway's exposure, egress guards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from components.settings import EgressGuardSettings, MtlsMode
from verify.calls import EMPTY, REFUSED, RESET, TIMED_OUT, Answer, tally
from verify.environment import HELLO_PORT, Environment, Member
from verify.finding import Finding, found, not_asked

CALLS = 12
SECONDS = 3


@dataclass(frozen=True)
class _Target:
    """A workload's endpoint, past its Service. `url` is the Service's."""

    name: str
    namespace: str
    address: str
    port: int
    url: str


def _targets(env: Environment) -> Iterator[_Target]:
    """A pod of helloworld, and a VM of each workload."""
    pod = env.pod(env.samples, "app=helloworld")
    yield _Target(f"pod {pod['metadata']['name']}", env.samples, pod["status"]["podIP"], HELLO_PORT, env.hello)
    for group in env.groups():
        member = group[0]
        yield _Target(
            f"VM {member.name}", member.workload.namespace, member.address, member.port, f"{member.url}/hello"
        )


def mtls(env: Environment) -> Iterator[Finding]:
    """A pod without a sidecar, outside of the mesh, sends plaintext; a pod of the mesh calls the same."""
    policies = env.settings.policies
    outside = env.client("plain", env.settings.outside_namespace)
    for target in _targets(env):
        mode = policies.namespace_mtls.get(target.namespace, policies.mtls)
        strict = mode is MtlsMode.STRICT
        answer = outside.call(f"http://{target.address}:{target.port}/hello", seconds=SECONDS)[0]
        # Nobody is authenticated, so an authorization policy may still say 403: that is an answer to plaintext too.
        refused = answer.connected and answer.exit_code in (EMPTY, RESET)
        yield found(
            f"{target.name} ({target.namespace}: {mode}): plaintext from outside is {'refused' if strict else 'accepted'}",
            f"GET http://{target.address}:{target.port}/hello from a pod without a sidecar",
            f"connected; {answer}" if answer.connected else str(answer),
            refused if strict else answer.status > 0,
        )
        inside = env.client().call(target.url)[0]
        yield found(
            f"{target.name}: a call from the mesh is answered",
            f"GET {target.url} from a pod of the mesh",
            str(inside),
            inside.ok,
        )


def authorization(env: Environment) -> Iterator[Finding]:
    """Two clients that differ by service account only: whoever a policy admits gets 200, the other one 403."""
    if not env.settings.policies.authorization:
        yield not_asked("authorization by service account", "policies.authorization")
    for policy in env.settings.policies.authorization:
        url = _url(env, policy.namespace, policy.app)
        if url is None:
            yield not_asked(f"{policy.namespace}/{policy.app}: authorization", "a sample application to call")
            continue
        for account in ("curl", "stranger"):
            admitted = f"{env.samples}/{account}" in policy.allow
            seen = env.client(account).call(url, count=CALLS)
            yield found(
                f"{policy.namespace}/{policy.app}: account {account} is {'admitted' if admitted else 'refused'}",
                f"{CALLS} calls of {url} as {env.samples}/{account}",
                tally(seen) + ("" if admitted else f": {seen[0].body.strip()}"),
                all(answer.ok if admitted else answer.status == 403 for answer in seen),
            )


def _url(env: Environment, namespace: str, app: str) -> str | None:
    if (namespace, app) == (env.samples, "helloworld"):
        return env.hello
    members = (m for m in env.members if (m.workload.namespace, m.workload.service) == (namespace, app))
    return next((f"{member.url}/hello" for member in members), None)


def exposure(env: Environment) -> Iterator[Finding]:
    """From a VM in another network: an exposed service answers; one that is not does not, although pods reach it."""
    member = next((member for member in env.members if not env.single_network(member)), None)
    if member is None:
        yield not_asked("exposure through the east-west gateway", "a workload in an Istio network of its own")
        return
    exposed = set(env.settings.mesh.exposed_services)
    services = {f"{env.samples}/helloworld": env.hello}
    services |= {
        f"{made.namespace}/{made.service}": f"http://{made.service}.{made.namespace}.svc:{made.port.port}/hello"
        for made in env.settings.traffic
        if made.port
    }
    for name, url in services.items():
        seen = member.caller.call(url, count=CALLS)
        control = env.client().call(url)[0]
        yield found(
            f"{name} is {'' if name in exposed else 'not '}exposed: {member.name} {'reaches' if name in exposed else 'cannot reach'} it",
            f"{CALLS} calls of {url} from the VM; for comparison from a pod",
            f"VM: {tally(seen)}; pod: {control}",
            control.ok and all(answer.ok == (name in exposed) for answer in seen),
        )


def egress_guard(env: Environment) -> Iterator[Finding]:
    """From a guarded namespace, with a sidecar and without one: no VM is reached, pods are; from others VMs are."""
    if not env.settings.policies.egress_guards:
        yield not_asked("namespace egress guard", "policies.egressGuards")
    for guard in env.settings.policies.egress_guards:
        if guard.namespace != env.settings.guarded_namespace:
            yield not_asked(f"egress guard of {guard.namespace}", "a client of the samples in that namespace")
            continue
        yield from _guarded(env, guard)


def _guarded(env: Environment, guard: EgressGuardSettings) -> Iterator[Finding]:
    meshed, plain = env.client("curl", guard.namespace), env.client("plain", guard.namespace)
    outside = env.client("plain", env.settings.outside_namespace)
    for member in env.members:
        if guard.workloads and _name(member) not in guard.workloads:
            continue
        url = f"http://{member.address}:{member.port}/"
        inner, outer = plain.call(url, seconds=SECONDS)[0], outside.call(url, seconds=SECONDS)[0]
        yield found(
            f"{guard.namespace} ⇥ {member.name}: no packet passes",
            f"TCP to {member.address}:{member.port} from a pod without a sidecar there; for comparison from {outside.namespace}",
            f"there: {_connection(inner)}; outside: {_connection(outer)}",
            not inner.connected and inner.exit_code in (REFUSED, TIMED_OUT) and outer.connected,
        )
    for url in _guarded_urls(env, guard):
        denied, allowed = meshed.call(url, seconds=SECONDS)[0], env.client().call(url)[0]
        yield found(
            f"{guard.namespace} ⇥ {url}: a sidecar is no way around, namespace {env.samples} gets through",
            f"GET {url} from a pod of the mesh in each of them",
            f"{guard.namespace}: {denied} {denied.body.strip()[:60]}; {env.samples}: {allowed}",
            # Any other status, such as an authorization policy's 403, comes from a VM's sidecar: then the guard leaks.
            denied.status in (0, 503) and not denied.header and allowed.ok,
        )
    pod = env.pod(env.samples, "app=helloworld")
    answer = plain.call(f"http://{pod['status']['podIP']}:{HELLO_PORT}/hello", seconds=SECONDS)[0]
    yield found(
        f"{guard.namespace} → pods: everything else is still reached",
        f"TCP to pod {pod['status']['podIP']}:{HELLO_PORT} from there",
        _connection(answer),
        answer.connected,
    )


def _guarded_urls(env: Environment, guard: EgressGuardSettings) -> list[str]:
    """Services that have guarded VMs only."""
    groups = [g[0] for g in env.groups() if g[0].workload.service == g[0].workload.name]
    return [f"{m.url}/hello" for m in groups if not guard.workloads or _name(m) in guard.workloads]


def _name(member: Member) -> str:
    return f"{member.workload.namespace}/{member.workload.name}"


def _connection(answer: Answer) -> str:
    return "connected" if answer.connected else f"not connected ({answer.error or answer})"
