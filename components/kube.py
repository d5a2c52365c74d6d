"""A thin helper over the official Kubernetes client: a kubeconfig's text in, plain API documents out.

Paths are those of the API reference (`/api/v1/namespaces/…`), so that one function serves built-in and Istio's own kinds. The client
takes a second to import and has no types: it is imported when first needed, here only.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from components.command_line import Deadline, Failure

CONNECT_SECONDS = 5
READ_SECONDS = 30
POLL_SECONDS = 0.5

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

    def delete(self, path: str) -> bool:
        """Delete the object at the path; whether there was one."""
        ...

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        """Run a command in a container, for at most `timeout` seconds."""
        ...


class ApiCluster:
    """A cluster that a kubeconfig leads to."""

    def __init__(self, kubeconfig: str) -> None:
        """Reads the kubeconfig's current context; connects when first asked something.

        Raises:
            KubeError: the text is not a kubeconfig.
        """
        config: Any = importlib.import_module("kubernetes.config")
        try:
            self._api: Any = config.new_client_from_config_dict(yaml.safe_load(kubeconfig))
        except (config.ConfigException, yaml.YAMLError, AttributeError, TypeError) as error:
            # The error's own text may quote the kubeconfig.
            raise KubeError(
                f"the kubeconfig cannot be used ({type(error).__name__}): give the text of a kubeconfig file"
            ) from None
        retry: Any = importlib.import_module("urllib3.util.retry")
        self._api.rest_client.pool_manager.connection_pool_kw["retries"] = retry.Retry(False)

    def get(self, path: str) -> ApiObject | None:
        """See `Cluster.get`."""
        return self._ask("GET", path)

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        """See `Cluster.items`."""
        found = self._ask("GET", path, query=[("labelSelector", selector)] if selector else [])
        return found["items"] if found else []

    def create(self, path: str, body: ApiObject) -> ApiObject:
        """See `Cluster.create`."""
        made = self._ask("POST", path, body=body)
        if made is None:
            raise KubeError(f"POST {path}: not found; the namespace, the object or its kind does not exist")
        return made

    def delete(self, path: str) -> bool:
        """See `Cluster.delete`."""
        return self._ask("DELETE", path) is not None

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        """See `Cluster.run`."""
        core: Any = importlib.import_module("kubernetes.client").CoreV1Api(self._api)
        stream: Any = importlib.import_module("kubernetes.stream").stream
        exceptions: Any = importlib.import_module("kubernetes.client.exceptions")
        try:
            running = stream(
                core.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=list(command),
                stdin=False, stdout=True, stderr=True, tty=False,
                _preload_content=False, _request_timeout=CONNECT_SECONDS,
            )  # fmt: skip
        except exceptions.ApiException as error:
            raise KubeError(f"cannot run {command[0]} in pod {namespace}/{pod}: {error.reason}") from None
        running.run_forever(timeout=timeout)
        if running.is_open():
            running.close()
            raise KubeError(f"{command[0]} in pod {namespace}/{pod} did not end within {timeout:.0f} s")
        try:
            code = int(running.returncode)
        except (ValueError, LookupError, TypeError):  # the client takes any failure to be the command's
            raise Unreachable(f"cannot run {command[0]} in pod {namespace}/{pod}: its node does not answer") from None
        return Ran(code, running.read_stdout(), running.read_stderr())

    def _ask(
        self, method: str, path: str, query: list[tuple[str, str]] | None = None, body: ApiObject | None = None
    ) -> dict[str, Any] | None:
        errors: Any = importlib.import_module("urllib3.exceptions")
        exceptions: Any = importlib.import_module("kubernetes.client.exceptions")
        host: str = self._api.configuration.host
        request = self._api.param_serialize(
            method, path, query_params=query or [], body=body, auth_settings=["BearerToken"],
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            response = self._api.call_api(*request, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
            answer = json.loads(response.read() or b"{}")
        except exceptions.ApiException as error:  # a failed TLS handshake: an answer of whatever status is none
            reason = " ".join(str(error.reason).split())
            raise KubeError(f"{host} is not the cluster that the kubeconfig is for: {reason}") from None
        except (errors.HTTPError, OSError) as error:
            raise Unreachable(f"the cluster's API at {host} does not answer ({type(error).__name__})") from error
        except ValueError:
            raise Unreachable(
                f"{method} {path}: the answer is not JSON; is the kubeconfig's server a Kubernetes API?"
            ) from None
        if response.status == 404:
            return None
        if response.status >= 500 or response.status == 429:
            raise Unreachable(f"{method} {path}: {response.status} {answer.get('message', '')}")
        if response.status >= 400:
            raise KubeError(f"{method} {path}: {response.status} {answer.get('message', '')}")
        return answer


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
