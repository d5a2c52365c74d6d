"""`kubernetes:helm.sh/v3:Release`: Helm releases, made by the helm binary.

Values go to helm's stdin and the kubeconfig through a memory file: neither is in an argument or on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Mapping, Sequence
from typing import Final, cast

import yaml

from lab.plugins import process
from lab.plugins.differences import Difference, Path, compare, under, without
from lab.plugins.failures import Failed
from lab.plugins.kubernetes.cluster import Cluster
from lab.plugins.kubernetes.shapes import annotate_secrets, table
from lab.plugins.provider import Call, Failures, Handler, InitFailed
from lab.plugins.values import UNKNOWN, Asset, Properties, Secret, Unknown, contains, mapped, plain

INPUTS: Final = "__inputs"
TIMEOUT_SECONDS: Final = 300
OWNER_LABEL: Final = "pulumi-urn"
"""On the release's own record: the hash of the resource that made it, so that a killed run's release is known as ours."""
_REPLACING: Final[tuple[Path, ...]] = (("name",), ("namespace",))
_OUTPUTS: Final = ("status", "resourceNames", "manifest", "checksum")
_IGNORED: Final = frozenset({"compat", "allowNullValues", "lint", *_OUTPUTS})
_INSTALL_FLAGS: Final[Mapping[str, str]] = {
    "atomic": "--atomic",
    "createNamespace": "--create-namespace",
    "dependencyUpdate": "--dependency-update",
    "devel": "--devel",
    "disableOpenapiValidation": "--disable-openapi-validation",
    "disableWebhooks": "--no-hooks",
    "renderSubchartNotes": "--render-subchart-notes",
    "replace": "--replace",
    "skipCrds": "--skip-crds",
    "takeOwnership": "--take-ownership",
    "verify": "--verify",
}
_UPGRADE_FLAGS: Final[Mapping[str, str]] = {
    "atomic": "--atomic",
    "cleanupOnFail": "--cleanup-on-fail",
    "dependencyUpdate": "--dependency-update",
    "devel": "--devel",
    "disableCRDHooks": "--no-hooks",
    "forceUpdate": "--force",
    "renderSubchartNotes": "--render-subchart-notes",
    "resetValues": "--reset-values",
    "reuseValues": "--reuse-values",
    "takeOwnership": "--take-ownership",
    "verify": "--verify",
}
_TEXTS: Final = ("chart", "description", "keyring", "name", "namespace", "version")
_KNOWN: Final = frozenset(
    {
        *_TEXTS,
        *_INSTALL_FLAGS,
        *_UPGRADE_FLAGS,
        *_IGNORED,
        "maxHistory",
        "repositoryOpts",
        "skipAwait",
        "timeout",
        "values",
    }
    | {"waitForJobs"}
)
_UNSUPPORTED: Final = ("postrender", "recreatePods", "valueYamlFiles", "lint")
_REPOSITORY_FLAGS: Final[Mapping[str, str]] = {
    "repo": "--repo",
    "caFile": "--ca-file",
    "certFile": "--cert-file",
    "keyFile": "--key-file",
}


class Releases(Handler):
    """Helm releases of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing is reached until a release has to be made, read or deleted."""
        self._cluster = cluster

    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """Defaults; and the chart is looked up, as its exact version is what decides whether to upgrade."""
        failures = _problems(news)
        if failures:
            return news, failures
        inputs = {key: value for key, value in news.items() if key not in _OUTPUTS and value is not None}
        if not inputs.get("name"):
            inputs["name"] = olds.get("name") or f"{call.name}-{secrets.token_hex(4)}"
        if not inputs.get("namespace"):
            inputs["namespace"] = self._cluster.default_namespace()
        if not inputs.get("skipAwait"):
            inputs.setdefault("timeout", TIMEOUT_SECONDS)
        if contains(inputs, Unknown):
            # The chart is looked up once everything is known; until then it counts as the one that is there.
            inputs.setdefault("version", olds.get("version"))
        else:
            try:
                inputs["version"] = self._chart_version(call, plain(inputs))
            except Failed as error:
                return news, {"chart": f"{error}; check the chart name and repository configuration"}
        return inputs, {}

    def diff(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Difference:
        """The inputs against the recorded ones; another name or namespace is another release."""
        old = {key: value for key, value in inputs.items() if key not in _OUTPUTS}
        changes = without(compare(old, news), call.ignore_changes)
        return Difference(changes, frozenset(path for path in changes if under(path, _REPLACING)))

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """`helm install`; what a killed run of this resource left is finished or cleared away first."""
        if call.preview:
            return "", _previewed(inputs)
        release = plain(inputs)
        left = self._left_behind(call, release)
        if left == "deployed":
            return _id(release), self._upgrade(call, inputs)
        if left:
            call.log.status(f"removing what a killed run left of this release ({left})")
            self._uninstall(call, release)
        return _id(release), self._install(call, inputs)

    def update(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Properties:
        """`helm upgrade`; an upgrade that a killed run left pending is rolled back first."""
        if call.preview:
            return _previewed(news)
        release = plain(news)
        found = self._found(call, release)
        if found.startswith("pending-"):
            self._settle(call, release, found)
        return self._upgrade(call, news)

    def read(self, call: Call, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        """The release's record."""
        namespace, _, name = call.resource_id.rpartition("/")
        release = {"name": name, "namespace": namespace or self._cluster.default_namespace()}
        if not self._found(call, release):
            return None
        record = self._record(call, release)
        if not inputs:
            inputs = {**release, "chart": record["chart"], "version": record["version"], "values": record["values"]}
        return inputs, _state(inputs, record)

    def delete(self, call: Call, inputs: Properties, state: Properties) -> None:
        """`helm uninstall`; already gone is no error."""
        self._uninstall(call, plain(state))

    def _install(self, call: Call, inputs: Properties) -> Properties:
        release = plain(inputs)
        return self._run(call, inputs, ["install", *_chart(release), *_flags(release, _INSTALL_FLAGS)])

    def _upgrade(self, call: Call, inputs: Properties) -> Properties:
        release = plain(inputs)
        history = ["--history-max", str(release.get("maxHistory") or 0)]
        # Without --install an upgrade of what is not there is an error, with it a release that someone removed comes back.
        arguments = ["upgrade", "--install", *_chart(release), *_flags(release, _UPGRADE_FLAGS), *history]
        return self._run(call, inputs, arguments)

    def _run(self, call: Call, inputs: Properties, arguments: Sequence[str]) -> Properties:
        """Install or upgrade: the new state. A failure that leaves a release behind is `InitFailed`."""
        release = plain(inputs)
        call.log.status(f"helm {arguments[0]} {_id(release)}")
        label = ["--labels", f"{OWNER_LABEL}={_owner(call)}"]
        try:
            self._helm(call, [*arguments, *_waiting(release), *label, "--values", "-"], release, stdin=_values(release))
        except Failed as error:
            if call.cancellation.asked or not self._found(call, release):
                raise
            raise InitFailed(
                f"Helm release {_id(release)} did not become ready: {error}",
                _id(release),
                _state(inputs, self._record(call, release)),
            ) from error
        return _state(inputs, self._record(call, release))

    def _chart_version(self, call: Call, release: Properties) -> str:
        shown = self._helm(call, ["show", "chart", *_chart_arguments(release)], {}, cluster=False)
        return str(yaml.safe_load(shown)["version"])

    def _left_behind(self, call: Call, release: Properties) -> str:
        """The status of a release that a killed run of this very resource left; empty when there is none.

        A release of the same name that is not ours is an error.
        """
        status = self._found(call, release)
        if status and not release.get("replace") and not self._found(call, release, owner=_owner(call)):
            raise Failed(
                f"Helm release {_id(release)} is there already ({status}) and is not this program's: "
                "cannot re-use a name that is still in use. Uninstall it, import it, or choose another name"
            )
        return "" if release.get("replace") else status

    def _settle(self, call: Call, release: Properties, status: str) -> None:
        """Bring a release that was being changed when its run was killed back to one that can be upgraded."""
        history = json.loads(self._helm(call, ["history", release["name"], "--output", "json"], release))
        good = [entry["revision"] for entry in history if entry["status"] in ("deployed", "superseded")]
        call.log.status(f"the last run was killed ({status}): repairing")
        if good:
            self._helm(call, ["rollback", release["name"], str(max(good)), *_waiting(release)], release)
        else:
            self._uninstall(call, release)

    def _uninstall(self, call: Call, release: Properties) -> None:
        wait = ["--wait", *_timeout(release)] if release.get("atomic") or not release.get("skipAwait") else []
        self._helm(call, ["uninstall", release["name"], "--ignore-not-found", *wait], release)

    def _found(self, call: Call, release: Properties, owner: str = "") -> str:
        """The status of the release; empty when there is none (of this owner)."""
        select = ["--selector", f"{OWNER_LABEL}={owner}"] if owner else []
        listed = self._helm(
            call, ["list", "--all", "--filter", f"^{release['name']}$", *select, "--output", "json"], release
        )
        return next((entry["status"] for entry in json.loads(listed) if entry["name"] == release["name"]), "")

    def _record(self, call: Call, release: Properties) -> Properties:
        name = release["name"]
        record = json.loads(self._helm(call, ["get", "metadata", name, "--output", "json"], release))
        values = json.loads(self._helm(call, ["get", "values", name, "--output", "json"], release))
        manifest = self._helm(call, ["get", "manifest", name], release)
        return {**record, "values": values or {}, "resourceNames": _resource_names(manifest)}

    def _helm(
        self,
        call: Call,
        arguments: Sequence[str],
        release: Properties,
        *,
        stdin: bytes = b"",
        cluster: bool = True,
    ) -> str:
        """Run helm; its stdout."""
        binary = shutil.which("helm")
        if binary is None:
            raise Failed("helm is not on PATH: it is one of the lab's tools (make tools)")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HELM_KUBE", "HELM_NAM"))
        }
        with self._cluster.kubeconfig_file() as (path, descriptors):
            where: list[str] = []
            if cluster:
                where = ["--namespace", release["namespace"]]
                where += ["--kubeconfig", path] if path else []
                where += ["--kube-context", self._cluster.context] if self._cluster.context else []
            finished = process.run(
                call.cancellation, [binary, *arguments, *where], stdin=stdin, env=environment, pass_fds=descriptors
            )
        if finished.code != 0:
            raise Failed(_explained(finished.stderr) or f"helm {arguments[0]}: {finished.ending}")
        return finished.stdout


def _problems(news: Properties) -> dict[str, str]:
    failures = {name: "is not supported by the lab's stand-in" for name in _UNSUPPORTED if news.get(name)}
    failures.update({name: "there is no such input" for name in news if name not in _KNOWN and name not in failures})
    for name in table(plain(news), "repositoryOpts"):
        if name not in _REPOSITORY_FLAGS:
            failures[f"repositoryOpts.{name}"] = (
                "is not supported by the lab's stand-in: helm takes it by argument only"
            )
    if not news.get("chart"):
        failures["chart"] = "a chart is needed: a path, oci://…, or a name with repositoryOpts.repo"
    found: list[Asset] = []
    mapped(plain(news.get("values")), lambda leaf: found.append(leaf) if isinstance(leaf, Asset) else leaf)
    if found:
        failures["values"] = "assets are not supported by the lab's stand-in"
    failures.update(
        {name: "a secret would be in helm's arguments" for name in _TEXTS if isinstance(news.get(name), Secret)}
    )
    return failures


def _chart(release: Properties) -> list[str]:
    return [release["name"], *_chart_arguments(release)]


def _chart_arguments(release: Properties) -> list[str]:
    repository: Properties = release.get("repositoryOpts") or {}
    arguments = [release["chart"]]
    if release.get("version") and not pathlib.Path(release["chart"]).exists():
        arguments += ["--version", release["version"]]
    elif release.get("devel"):
        arguments += ["--devel"]
    for name, flag in _REPOSITORY_FLAGS.items():
        if repository.get(name):
            arguments += [flag, repository[name]]
    return arguments


def _flags(release: Properties, flags: Mapping[str, str]) -> list[str]:
    arguments = [flag for name, flag in flags.items() if release.get(name) and name != "devel"]
    for name in ("description", "keyring"):
        if release.get(name):
            arguments += [f"--{name}", release[name]]
    return arguments


def _waiting(release: Properties) -> list[str]:
    if release.get("skipAwait"):
        return _timeout(release)
    return ["--wait", *(["--wait-for-jobs"] if release.get("waitForJobs") else []), *_timeout(release)]


def _timeout(release: Properties) -> list[str]:
    return ["--timeout", f"{int(release.get('timeout') or TIMEOUT_SECONDS)}s"]


def _values(release: Properties) -> bytes:
    return json.dumps(release.get("values") or {}).encode()


def _owner(call: Call) -> str:
    return hashlib.sha256(call.urn.encode()).hexdigest()[:40]


def _id(release: Properties) -> str:
    return f"{release['namespace']}/{release['name']}"


def _previewed(inputs: Properties) -> Properties:
    return {**inputs, "status": UNKNOWN, "resourceNames": UNKNOWN}


def _state(inputs: Properties, record: Properties) -> Properties:
    """What is recorded of a release: its inputs, and what helm says of it."""
    state: Properties = {
        **plain(inputs),
        "version": record["version"],
        "resourceNames": record["resourceNames"],
        "status": {
            "name": record["name"],
            "namespace": record["namespace"],
            "revision": record["revision"],
            "status": record["status"],
            "chart": record["chart"],
            "version": record["version"],
            "appVersion": record.get("appVersion") or "",
        },
    }
    return {**annotate_secrets(state, inputs), INPUTS: Secret(plain(inputs))}


def _resource_names(manifest: str) -> dict[str, list[str]]:
    """The objects of a manifest by `Kind.group/apiVersion`, as the official plugin lists them."""
    names: dict[str, set[str]] = {}
    for document in yaml.safe_load_all(manifest):
        if not isinstance(document, dict) or "kind" not in document:
            continue
        obj = cast(Properties, document)
        group, _, _ = obj["apiVersion"].rpartition("/")
        metadata = obj["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]
        kind = f"{obj['kind']}.{group}" if group else obj["kind"]
        names.setdefault(f"{kind}/{obj['apiVersion']}", set()).add(name)
    return {key: sorted(found) for key, found in sorted(names.items())}


def _explained(stderr: str) -> str:
    """Helm's error without the warnings before it."""
    lines = [line for line in stderr.splitlines() if line and not line.startswith("WARNING:")]
    return "\n".join(lines).removeprefix("Error: ")
