"""A Kubernetes API server: requests, discovery, and the kubeconfig for other programs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import yaml

from lab.plugins.failures import Failed
from lab.plugins.kubernetes.shapes import rows, table
from lab.plugins.provider import PARALLEL
from lab.plugins.values import Properties

Object = dict[str, Any]
_TIMEOUT = (10, 60)
"""Seconds to connect, and to wait for an answer."""


class Unreachable(Failed):
    """The API server does not answer, or there is no usable kubeconfig."""


class NoSuchKind(Failed):
    """The API server does not know this apiVersion and kind (yet)."""


class ApiError(Failed):
    """The API server refused."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """`reason` is Kubernetes' own word, such as AlreadyExists."""
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Resource:
    """Where the objects of one kind are."""

    path: str
    """Of the group and version: `/api/v1`, `/apis/apps/v1`."""
    plural: str
    namespaced: bool

    def collection(self, namespace: str) -> str:
        """The path of all objects, in a namespace where the kind has one."""
        return f"{self.path}/namespaces/{namespace}/{self.plural}" if self.namespaced else f"{self.path}/{self.plural}"

    def object(self, namespace: str, name: str) -> str:
        """The path of one object."""
        return f"{self.collection(namespace)}/{name}"


@dataclass
class Cluster:
    """Reached at the first request, not before: a preview may not need it."""

    kubeconfig: str = ""
    """Content or path; empty for the usual places."""
    context: str = ""
    cluster: str = ""
    namespace: str = ""
    _api: Any = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _known: dict[str, dict[str, Resource]] = field(default_factory=lambda: dict[str, dict[str, Resource]](), init=False)

    def get(self, path: str, **query: str) -> Object:
        """GET."""
        return self.request("GET", path, query)

    def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any = None, content: str = "application/json"
    ) -> Object:
        """One request; raises `Unreachable` or `ApiError`."""
        import urllib3

        client = self._client()
        headers = {"Accept": "application/json", "Content-Type": content, "User-Agent": "istio-vms-lab"}
        client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        try:
            response = client.rest_client.pool_manager.request(
                method,
                f"{client.configuration.host}{path}{'?' + urlencode(query) if query else ''}",
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                timeout=urllib3.Timeout(*_TIMEOUT),
                # Too many requests: the server has done nothing yet, and says when to come again.
                retries=urllib3.Retry(
                    connect=1,
                    read=0,
                    redirect=0,
                    status=5,
                    other=0,
                    status_forcelist=(429,),
                    allowed_methods=None,
                    raise_on_status=False,
                ),
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(
                f"the Kubernetes cluster at {client.configuration.host} is unreachable: {error}"
            ) from error
        if response.status >= 400:
            raise _api_error(response.status, response.data)
        return cast(Object, json.loads(response.data))

    def resource(self, api_version: str, kind: str) -> Resource:
        """Where objects of this kind are; raises `NoSuchKind`."""
        found = self._known.get(api_version, {}).get(kind)
        if found is None:
            path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            self._known[api_version] = self._discovered(path)
            found = self._known[api_version].get(kind)
        if found is None:
            raise NoSuchKind(
                f"the API server does not know {api_version} {kind}: make sure that its CustomResourceDefinition is there"
            )
        return found

    def _discovered(self, path: str) -> dict[str, Resource]:
        try:
            listed = rows(self.get(path), "resources")
        except ApiError as error:
            if error.status != 404:
                raise
            return {}
        return {
            entry["kind"]: Resource(path, entry["name"], entry["namespaced"])
            for entry in listed
            if "/" not in entry["name"]
        }

    def default_namespace(self) -> str:
        """The provider's, else the kubeconfig context's, else `default`."""
        return self.namespace or self._context_namespace() or "default"

    def _context_namespace(self) -> str:
        try:
            config = self.config()
        except Unreachable:
            return ""
        return _selected_context(config, self.context).get("namespace") or ""

    @contextmanager
    def kubeconfig_file(self) -> Generator[tuple[str, tuple[int, ...]], None, None]:
        """A path for a program that we start, and the descriptors it has to inherit. Contents never touch the disk."""
        path = _as_path(self.kubeconfig) if self.kubeconfig else None
        if path or not self.kubeconfig:
            yield str(path or ""), ()
            return
        descriptor = os.memfd_create("kubeconfig")
        try:
            os.fchmod(descriptor, 0o600)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(self.kubeconfig.encode())
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)

    def _client(self) -> Any:
        with self._lock:
            if self._api is None:
                from kubernetes import client, config

                loaded = self.config()
                settings = client.Configuration(connection_pool_maxsize=PARALLEL)
                try:
                    self._api = cast(Any, config).new_client_from_config_dict(
                        loaded, context=self.context or None, client_configuration=settings, persist_config=False
                    )
                except (config.ConfigException, KeyError, TypeError) as error:
                    raise Unreachable(f"the kubeconfig cannot be used: {error}") from error
            return self._api

    def config(self) -> Object:
        """The kubeconfig with the overrides; raises `Unreachable` when there is none that can be read."""
        try:
            if not self.kubeconfig:
                text = _ambient()
            else:
                path = _as_path(self.kubeconfig)
                text = path.read_text() if path else self.kubeconfig
            loaded = yaml.safe_load(text)
        except (OSError, yaml.YAMLError) as error:
            raise Unreachable(f"the kubeconfig cannot be read: {type(error).__name__}") from error
        if not isinstance(loaded, dict):
            raise Unreachable("the kubeconfig is neither a file nor the content of one")
        return self._overridden(cast(Object, loaded))

    def _overridden(self, config: Object) -> Object:
        if self.cluster:
            _selected_context(config, self.context)["cluster"] = self.cluster
        return config


def _selected_context(config: Object, name: str) -> Object:
    wanted = name or config.get("current-context")
    found = (entry for entry in rows(config, "contexts") if entry["name"] == wanted)
    return table(next(found, None), "context")


def active_cluster(kubeconfig: Any, context: Any, cluster: Any) -> Properties | None:
    """The cluster entry that a provider's settings select, to see whether another one is meant; None when unclear."""
    if not isinstance(kubeconfig, str):
        return None
    settings = Cluster(kubeconfig, context or "", cluster or "")
    try:
        config = settings.config()
    except Unreachable:
        return None
    wanted = _selected_context(config, settings.context).get("cluster")
    return next((table(entry, "cluster") for entry in rows(config, "clusters") if entry["name"] == wanted), None)


def _as_path(text: str) -> Path | None:
    if "\n" in text or text.lstrip().startswith("{"):
        return None
    path = Path(text).expanduser()
    return path if path.is_file() else None


def _ambient() -> str:
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return (Path(named) if named else Path.home() / ".kube" / "config").read_text()


def _api_error(status: int, data: bytes) -> ApiError:
    try:
        answer = json.loads(data)
        message, reason = answer.get("message") or "", answer.get("reason") or ""
    except ValueError:
        message, reason = data.decode(errors="replace").strip(), ""
    return ApiError(status, reason, message or f"the API server answered with HTTP status {status}")
