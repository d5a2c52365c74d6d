"""A thin helper over the official Kubernetes client: a kubeconfig's text in, plain API documents out.

Paths are those of the API reference (`/api/v1/namespaces/…`), so that one function serves built-in and Istio's own kinds. The client
takes a second to import and has no types: it is imported when first needed, here only.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, cast

import yaml

from actions.protocol import Deadline, Failure

CONNECT_SECONDS = 5
READ_SECONDS = 30
CONNECTIONS = 32
"""How many are kept for threads that ask at once; urllib3 warns on stderr of each one more."""
POLL_SECONDS = 0.5
MESSAGE_CHARACTERS = 200

_CONTENTS = ("certificate-authority-data", "client-certificate-data", "client-key-data")
"""What in a kubeconfig is a file's content, in base64; without `-data` it is the file's path."""

ApiObject = Mapping[str, Any]
"""An object of the Kubernetes API, as its JSON."""


class KubeError(Failure):
    """The cluster refused a request."""


class Unreachable(KubeError):
    """The cluster did not answer, which may pass."""


@dataclass(frozen=True)
class Ran:
    """How a command in a container ended."""

    exit_code: int
    stdout: str
    stderr: str


class Cluster(Protocol):
    """What our command lines ask of a cluster. Every method may raise `KubeError`, or `Unreachable` when nothing answered."""

    def get(self, path: str) -> ApiObject | None:
        """The object at the path, or None when there is none."""
        ...

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        """The objects of a collection, those with the labels; none when the cluster does not know the kind."""
        ...

    def create(self, path: str, body: ApiObject) -> ApiObject:
        """Post an object; what the cluster made of it."""
        ...

    def replace(self, path: str, body: ApiObject) -> ApiObject:
        """Put an object in the place of the one at the path; what the cluster made of it."""
        ...

    def patch(self, path: str, body: ApiObject) -> ApiObject:
        """Merge some fields into the object at the path (RFC 7386); what the cluster made of it."""
        ...

    def delete(self, path: str) -> bool:
        """Delete the object at the path; whether there was one."""
        ...

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        """Run a command in a container, for at most `timeout` seconds."""
        ...

    def logs(self, namespace: str, pod: str, container: str, since_seconds: int) -> str:
        """What a container has logged in the last so many seconds, at least one."""
        ...


def _without_files(kubeconfig: Any) -> Any:
    """The kubeconfig with its keys and certificates in memory, where the system can have files there.

    The client writes them into temporary files, which stay when its process is killed.
    """
    if isinstance(kubeconfig, list):
        return [_without_files(entry) for entry in cast("list[Any]", kubeconfig)]
    if not isinstance(kubeconfig, dict) or not hasattr(os, "memfd_create"):
        return cast("Any", kubeconfig)
    found = {key: _without_files(value) for key, value in cast("dict[Any, Any]", kubeconfig).items()}
    for key in [key for key in _CONTENTS if isinstance(found.get(key), str)]:
        found[key.removesuffix("-data")] = _memory_file(found.pop(key))
    return found


@cache
def _memory_file(data: str) -> str:
    """The path of a file that is there for as long as this process."""
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        raise TypeError("no base64") from None
    descriptor = os.memfd_create("kubeconfig")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return f"/proc/self/fd/{descriptor}"


class ApiCluster:
    """A cluster that a kubeconfig leads to. Several threads may ask it at once."""

    def __init__(self, kubeconfig: str) -> None:
        """Reads the kubeconfig's current context; connects when first asked something.

        Raises:
            KubeError: the text is not a kubeconfig.
        """
        config: Any = importlib.import_module("kubernetes.config")
        try:
            self._api: Any = config.new_client_from_config_dict(_without_files(yaml.safe_load(kubeconfig)))
        except (config.ConfigException, yaml.YAMLError, AttributeError, TypeError) as error:
            # The error's own text may quote the kubeconfig.
            raise KubeError(
                f"the kubeconfig cannot be used ({type(error).__name__}): give the text of a kubeconfig file"
            ) from None
        retry: Any = importlib.import_module("urllib3.util.retry")
        pool: dict[str, Any] = self._api.rest_client.pool_manager.connection_pool_kw
        pool |= {"retries": retry.Retry(False), "maxsize": CONNECTIONS}

    def get(self, path: str) -> ApiObject | None:
        """See `Cluster.get`."""
        return self._ask("GET", path)

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        """See `Cluster.items`."""
        found = self._ask("GET", path, [("labelSelector", selector)] if selector else [])
        return found["items"] if found else []

    def create(self, path: str, body: ApiObject) -> ApiObject:
        """See `Cluster.create`."""
        made = self._ask("POST", path, body=body)
        if made is None:
            raise KubeError(f"POST {path}: not found; the namespace, the object or its kind does not exist")
        return made

    def replace(self, path: str, body: ApiObject) -> ApiObject:
        """See `Cluster.replace`."""
        made = self._ask("PUT", path, body=body)
        if made is None:
            raise KubeError(f"PUT {path}: not found; there is no such object")
        return made

    def patch(self, path: str, body: ApiObject) -> ApiObject:
        """See `Cluster.patch`."""
        return self._patch(path, body, "application/merge-patch+json")

    def apply(self, path: str, body: ApiObject, manager: str) -> ApiObject:
        """Server-side apply in a field manager's name, which takes what others own of these fields; what the cluster made of it."""
        query = [("fieldManager", manager), ("force", "true")]
        return self._patch(path, json.dumps(body), "application/apply-patch+yaml", query)

    def edit(self, path: str, operations: Sequence[Mapping[str, Any]]) -> ApiObject:
        """Change an object by a JSON Patch, see RFC 6902; what the cluster made of it."""
        return self._patch(path, list(operations), "application/json-patch+json")

    def _patch(self, path: str, body: Any, content: str, query: Sequence[tuple[str, str]] = ()) -> ApiObject:
        made = self._ask("PATCH", path, query, body, content)
        if made is None:
            raise KubeError(f"PATCH {path}: not found; the namespace, the object or its kind does not exist")
        return made

    def delete(self, path: str) -> bool:
        """See `Cluster.delete`."""
        return self._ask("DELETE", path) is not None

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        """See `Cluster.run`."""
        client: Any = importlib.import_module("kubernetes.client")
        # A client of its own: `stream` makes the one it is given send everything over a websocket for a while.
        core: Any = client.CoreV1Api(client.ApiClient(self._api.configuration))
        stream: Any = importlib.import_module("kubernetes.stream").stream
        exceptions: Any = importlib.import_module("kubernetes.client.exceptions")
        try:
            running = stream(
                core.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=list(command),
                stdin=False, stdout=True, stderr=True, tty=False,
                _preload_content=False, _request_timeout=CONNECT_SECONDS,
            )  # fmt: skip
        except exceptions.ApiException as error:
            reason = " ".join(str(error.reason).split())
            raise KubeError(f"cannot run {command[0]} in pod {namespace}/{pod}: {reason}") from None
        running.run_forever(timeout=timeout)
        if running.is_open():
            running.close()
            raise KubeError(f"{command[0]} in pod {namespace}/{pod} did not end within {timeout:.0f} s")
        try:
            code = int(running.returncode)
        except (ValueError, LookupError, TypeError):  # the client takes any failure to be the command's
            raise Unreachable(f"cannot run {command[0]} in pod {namespace}/{pod}: its node does not answer") from None
        return Ran(code, running.read_stdout(), running.read_stderr())

    def logs(self, namespace: str, pod: str, container: str, since_seconds: int) -> str:
        """See `Cluster.logs`."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        content = self._send("GET", path, [("container", container), ("sinceSeconds", str(since_seconds))])
        if content is None:
            raise KubeError(f"GET {path}: not found; there is no pod {namespace}/{pod}")
        return content.decode(errors="replace")

    def _ask(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        content: str = "application/json",
    ) -> dict[str, Any] | None:
        """The JSON document of an answer, or None for 404."""
        answer = self._send(method, path, query, body, content)
        try:
            return None if answer is None else json.loads(answer or b"{}")
        except ValueError:
            raise Unreachable(
                f"{method} {path}: the answer is not JSON; is the kubeconfig's server a Kubernetes API?"
            ) from None

    def _send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes | None:
        """The body of an answer, or None for 404."""
        errors: Any = importlib.import_module("urllib3.exceptions")
        exceptions: Any = importlib.import_module("kubernetes.client.exceptions")
        host: str = self._api.configuration.host
        request = self._api.param_serialize(
            method, path, query_params=list(query), body=body, auth_settings=["BearerToken"],
            header_params={"Accept": "application/json, */*", "Content-Type": content_type},
        )  # fmt: skip
        try:
            response = self._api.call_api(*request, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
            content: bytes = response.read()
        except exceptions.ApiException as error:  # a failed TLS handshake: an answer of whatever status is none
            reason = " ".join(str(error.reason).split())
            raise KubeError(f"{host} is not the cluster that the kubeconfig is for: {reason}") from None
        except (errors.HTTPError, OSError) as error:
            raise Unreachable(f"the cluster's API at {host} does not answer ({type(error).__name__})") from error
        if response.status == 404:
            return None
        if response.status >= 400:
            passing = response.status >= 500 or response.status == 429
            raise (Unreachable if passing else KubeError)(f"{method} {path}: {response.status} {_message(content)}")
        return content


def _message(content: bytes) -> str:
    """What the API says in its `Status`, or the text that stands in its place."""
    try:
        return json.loads(content)["message"]
    except (ValueError, TypeError, KeyError):
        return " ".join(content.decode(errors="replace").split())[:MESSAGE_CHARACTERS]


def is_ready(item: ApiObject) -> bool:
    """Whether a node or a pod is."""
    return ready_condition(item).get("status") == "True"


def ready_condition(item: ApiObject) -> Mapping[str, Any]:
    """What a node or a pod says of being Ready: `{"status", "message", …}`; empty when nothing yet."""
    conditions: list[dict[str, Any]] = item.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == "Ready"), dict[str, Any]())


def wait(
    look: Callable[[], str | None],
    deadline: Deadline,
    sleep: Callable[[float], None] = time.sleep,
    pause: float = POLL_SECONDS,
) -> str | None:
    """Look again and again until there is no reason to wait any more, through passing failures of the API.

    Args:
        look: the reason to wait on, or None when done.
        deadline: when to give up.
        sleep: how to pass the time between two looks.
        pause: seconds between two looks.

    Returns:
        None when done in time, else the last reason.
    """
    while True:
        try:
            reason = look()
        except Unreachable as error:
            reason = str(error)
        if reason is None or deadline.passed:
            return reason
        sleep(deadline.left(at_most=pause))


def token(cluster: Cluster, namespace: str, service_account: str, audience: str, seconds: int) -> str:
    """A token of the service account, for one audience and a short time; the API's minimum is 600 seconds.

    Raises:
        KubeError: there is no such service account.
    """
    answer = cluster.create(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": seconds},
        },
    )
    return answer["status"]["token"]
