"""Every host that is reached over SSH is known by its key beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from review.model import Options, Resource
from review.values import mapping, mappings, texts

_UNCHECKED = re.compile(r"StrictHostKeyChecking[= ]+[\"']?(no|off|accept-new)\b|UserKnownHostsFile[= ]+[\"']?/dev/null")


def pinned_host_keys(resource: Resource, _: Options) -> Iterable[str]:
    """Connections that would trust whoever answers."""
    if not resource.type.startswith("command:"):
        return
    connection = mapping(resource.inputs.get("connection"))
    for place, target in (("connection", connection), ("connection.proxy", mapping(connection.get("proxy")))):
        if target and not target.get("hostKey"):
            yield f"{place} has no hostKey: pin the key of the host"
    for path, document in mappings(resource.inputs.get("stdin"), ("stdin",)):
        if _is_ssh(document) and not document.get("host_key"):
            yield f"{'.'.join(path)} has no host_key: pin the key of {document['host']}"
    for path, text in texts(resource.inputs):
        if _UNCHECKED.search(text):
            yield f"{'.'.join(path)} calls ssh without checking the host's key: pin it in a known_hosts file"


def _is_ssh(document: Mapping[str, Any]) -> bool:
    """How command lines of this project are told to reach a host: actions/protocol.py, and the options of driver `existing`."""
    return {"host", "port"} <= set(document)
