"""Proves that pods and virtual machines call each other by name, with mutual TLS, and shows the evidence.

A sidecar that ends a mutual TLS connection tells its application who called in the header `X-Forwarded-Client-Cert`: `By` is the
application's own identity, `URI` the caller's, both from certificates. An application that echoes its request's headers as JSON
thereby gives the proof; one that does not leaves the weaker evidence that Envoy answered.

A Service may have pods and several machines behind it, so it is called a number of times, and only the answer of the one that is meant
counts: that of the machine, which says its name in `X-Instance`, or, when a machine calls, that of any pod, which says no such thing.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from actions import ssh
from actions.kube import Cluster, KubeError, wait
from actions.protocol import Deadline, Document, Failure, Progress, Ssh
from actions.ssh import Connect, side_by_side
from actions.workloads.entry import path as entry_path

CONNECT_SECONDS = 10
COMMAND_SECONDS = 30
CALLS = 20
"""How many calls of a Service curl makes at a time, and so how many may go to others than the one that is meant."""
STREAMS, CALLS_EACH = 12, 2
"""A gateway between networks passes TLS on by connection, not by request: a VM calls over so many of them at a time."""
_END = "\x1e"
BODY_CHARACTERS = 200
ServiceUrl = Annotated[str, Field(pattern=r"^http://[a-z0-9-]+\.[a-z0-9-]+\.svc[a-z0-9.-]*(:\d+)?$")]

_ECHO: TypeAdapter[dict[str, str | list[str] | dict[str, str | list[str]]]] = TypeAdapter(
    dict[str, str | list[str] | dict[str, str | list[str]]]
)

_HINTS = {
    503: "no healthy endpoint: look at `kubectl get workloadentries,pods -A` and at the Service's selector",
    403: "refused: look at the AuthorizationPolicies",
}


class Caller(Document):
    """The pod that calls. Its container has curl."""

    namespace: Annotated[str, Field(min_length=1)]
    selector: str = "app=curl"
    container: str = "curl"


class Call(Document):
    """One member to prove.

    Attributes:
        vm: the machine's name, for people.
        ssh: how to reach it; it has curl.
        workload_entry: the member's WorkloadEntry, which is in the namespace of its Service.
        pod_to_vm: the member's Service, such as `http://app.vmns.svc:8000`; on the machine `/headers` echoes the request's headers.
        vm_to_mesh: a Service over pods like Istio's helloworld, which answer `/hello`; `/headers` there may echo too.
    """

    vm: str
    ssh: Ssh
    workload_entry: Annotated[str, Field(min_length=1)]
    pod_to_vm: ServiceUrl
    vm_to_mesh: ServiceUrl

    @property
    def namespace(self) -> str:
        """The namespace of the member, from its Service's name."""
        return self.pod_to_vm.split(".")[1]


class ProveRequest(Document):
    """What `prove` reads."""

    kubeconfig: str = Field(repr=False)
    caller: Caller
    calls: Annotated[tuple[Call, ...], Field(min_length=1)]
    timeout_seconds: Annotated[float, Field(gt=0)] = 60


@dataclass(frozen=True)
class Response:
    """What curl printed with `-i`. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str

    @classmethod
    def parse(cls, text: str) -> Response:
        """Read it.

        Raises:
            CallError: it is not an HTTP response.
        """
        head, _, body = text.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        status = re.match(r"HTTP/\S+ (\d{3})", first)
        if not status:
            raise CallError("the answer is not HTTP")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return cls(int(status[1]), headers, body)

    @classmethod
    def parse_all(cls, text: str) -> list[Response]:
        """Read the responses to `_curl`.

        Raises:
            CallError: one is not an HTTP response.
        """
        return [cls.parse(part) for part in text.split(_END) if part.strip()]

    @property
    def instance(self) -> str | None:
        """The machine that answered; None for a pod, or when nobody got the request."""
        return self.headers.get("x-instance")

    @property
    def echo(self) -> dict[str, str] | None:
        """The request's headers as the application saw them, names in lower case; None when it does not show them.

        They are the JSON body, or under `headers` in it; a value may be a list.
        """
        try:
            shown = _ECHO.validate_json(self.body)
        except ValidationError:
            return None
        nested = shown.get("headers", shown)
        listed = nested if isinstance(nested, dict) else shown
        headers = {
            name.lower(): value[0] if isinstance(value, list) else str(value) for name, value in listed.items() if value
        }
        return headers if "user-agent" in headers else None

    @property
    def through_envoy(self) -> bool:
        """Whether a sidecar passed it on."""
        return "x-envoy-upstream-service-time" in self.headers or self.headers.get("server") in ("envoy", "istio-envoy")


class CallError(Failure):
    """A call did not prove what it should; calling again may."""


@dataclass(frozen=True)
class Evidence:
    """What a call showed.

    `instance` is the machine that answered, where the application says so. `proof` is `mutual-tls` when both identities come from the
    server's sidecar, and `proxied` when Envoy answered but the application does not tell what it was told.
    """

    vm: str
    source: str
    url: str
    status: int
    proof: str
    client_identity: str | None = None
    server_identity: str | None = None
    body: str | None = None
    instance: str | None = None


def prove(
    request: ProveRequest, cluster: Cluster, progress: Progress, connect: Connect = ssh.connect,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Evidence]:  # fmt: skip
    """Call every member from the pod, and the mesh from every member, side by side.

    Raises:
        Failure: with the reason for each call that did not succeed in time.
    """
    deadline = Deadline(request.timeout_seconds)
    attempts: dict[str, Callable[[], Evidence]] = {}
    for call in request.calls:
        attempts[f"pod → {call.vm}"] = partial(_from_pod, request.caller, call, cluster)
        attempts[f"{call.vm} → pods"] = partial(_from_vm, call, cluster, connect)
    found: list[Evidence] = []
    failed: list[str] = []
    with ThreadPoolExecutor() as pool:
        results = pool.map(partial(_repeat, deadline=deadline, sleep=sleep), attempts.values())
        for title, result in zip(attempts, results, strict=True):
            if isinstance(result, Evidence):
                found.append(result)
                progress(f"{title}: {result.status}, {result.proof}")
            else:
                failed.append(f"{title}: {result}")
                progress(failed[-1])
    if failed:
        raise Failure(f"{len(failed)} call(s) failed within {request.timeout_seconds:.0f} s:\n  " + "\n  ".join(failed))
    return found


def _repeat(attempt: Callable[[], Evidence], deadline: Deadline, sleep: Callable[[float], None]) -> Evidence | str:
    """What an attempt showed when it succeeded at last, or why it did not in time."""
    seen: list[Evidence] = []

    def look() -> str | None:
        try:
            seen.append(attempt())
        except (CallError, KubeError, ssh.SshError) as error:
            return str(error)
        return None

    return wait(look, deadline, sleep, pause=1) or seen[-1]


def _from_pod(caller: Caller, call: Call, cluster: Cluster) -> Evidence:
    pods = cluster.items(f"/api/v1/namespaces/{caller.namespace}/pods", caller.selector)
    running = sorted(
        (p for p in pods if p.get("status", {}).get("phase") == "Running"), key=lambda p: p["metadata"]["name"]
    )
    if not running:
        raise CallError(f"no pod with {caller.selector} runs in namespace {caller.namespace}")
    pod, url = running[0]["metadata"]["name"], f"{call.pod_to_vm}/headers"
    client = _account(caller.namespace, running[0]["spec"].get("serviceAccountName", "default"))
    ran = cluster.run(caller.namespace, pod, caller.container, _curl(url), COMMAND_SECONDS)
    if ran.exit_code:
        raise CallError(f"{url}: {ran.stderr.strip() or f'curl ended with {ran.exit_code}'}")
    told = _first(Response.parse_all(ran.stdout), lambda response: response.instance == call.vm, f"{url}: {call.vm}")
    evidence = _judge(call, f"pod {caller.namespace}/{pod}", url, told, client, _member(call, cluster))
    return replace(evidence, instance=call.vm)


def _from_vm(call: Call, cluster: Cluster, connect: Connect) -> Evidence:
    target = call.ssh
    client = _member(call, cluster)
    with connect(
        target.host, target.port, target.user, target.private_key, target.host_key, CONNECT_SECONDS
    ) as session:

        def fetch(path: str, statuses: Container[int]) -> Response:
            url = f"{call.vm_to_mesh}{path}"
            script = side_by_side(shlex.join(_curl(url, CALLS_EACH)), STREAMS)
            answers = Response.parse_all(session.run(script, timeout=COMMAND_SECONDS, as_root=False))
            return _first(
                answers, lambda response: not response.instance and response.status in statuses, f"{url}: a pod"
            )

        hello = fetch("/hello", {200})
        headers = fetch("/headers", {200, 404})
    told = headers if headers.echo is not None else hello
    return _judge(
        call, f"vm {call.vm}", f"{call.vm_to_mesh}/hello", told, client, "", hello.body.strip()[:BODY_CHARACTERS]
    )


def _curl(url: str, calls: int = CALLS) -> list[str]:
    """The words that call a URL several times, by curl's own globbing, up to the first call without an answer."""
    return ["curl", "-sS", "-i", "-m", "5", "--fail-early", "-w", _END, f"{url}?call=[1-{calls}]"]


def _first(responses: Sequence[Response], meant: Callable[[Response], bool], whose: str) -> Response:
    """The first response that is meant.

    Raises:
        CallError: there is none; the reason is that of the first refusal, or that others answered.
    """
    for response in responses:
        if meant(response):
            return response
    for response in responses:
        if response.status >= 400:
            raise _refused(response)
    raise CallError(f"{whose} gave none of {len(responses)} answers: the Service sends every call elsewhere")


def _judge(
    call: Call, source: str, url: str, response: Response, client: str, server: str, body: str | None = None
) -> Evidence:
    """What a response proves: both identities are to end as given.

    Raises:
        CallError: the application tells of no identity or of another one, or nothing passed through a sidecar.
    """
    echo = response.echo
    if echo is None:
        if response.status >= 500 or response.status == 403 or not response.through_envoy:
            raise _refused(response)
        return Evidence(call.vm, source, url, response.status, "proxied", body=body)
    by, uri = identities(echo.get("x-forwarded-client-cert", ""))
    if not uri or not by:
        raise CallError(
            f"{url}: answered, but not told who called: no mutual TLS. Is a sidecar missing, or does the port's name not begin with http?"
        )
    if not uri.endswith(client) or not by.endswith(server):
        raise CallError(f"{url}: {uri} called {by}, where …{client} should have called …{server or '/'}")
    return Evidence(call.vm, source, url, response.status, "mutual-tls", uri, by, body)


def identities(forwarded: str) -> tuple[str | None, str | None]:
    """The server's and the client's identity in the last element of `X-Forwarded-Client-Cert`: what the nearest sidecar verified."""
    fields: dict[str, str] = {}
    for part in forwarded.rpartition(",")[2].split(";"):
        name, _, value = part.partition("=")
        fields[name] = value
    return fields.get("By"), fields.get("URI")


def _member(call: Call, cluster: Cluster) -> str:
    """How the member's identity ends, from its WorkloadEntry.

    Raises:
        CallError: there is none any more.
    """
    entry = cluster.get(entry_path(call.namespace, call.workload_entry))
    if entry is None:
        raise CallError(f"WorkloadEntry {call.namespace}/{call.workload_entry} is gone: has the member left the mesh?")
    return _account(call.namespace, entry["spec"].get("serviceAccount", "default"))


def _account(namespace: str, service_account: str) -> str:
    return f"/ns/{namespace}/sa/{service_account}"


def _refused(response: Response) -> CallError:
    hint = _HINTS.get(response.status, response.body.strip()[:BODY_CHARACTERS])
    sidecar = "" if response.through_envoy else " (no sidecar was in between)"
    return CallError(f"{response.status}{sidecar}: {hint}")
