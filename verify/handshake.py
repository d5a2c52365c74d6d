#!/usr/bin/env python3
"""See who answers at addresses: prints `{address: [names of the certificate] or why not}` as JSON.

Reads `{"addresses": […], "port": 15013, "name": the server's, "roots": path}` as its argument. Sent to the machine whole, so it needs
nothing but the standard library and works from Python 3.9 on.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from typing import Any

SECONDS = 3


def seen(address: str, port: int, name: str, roots: str) -> Any:
    """The names in the certificate that the server shows to whoever asks for `name`, or why there is none that the roots vouch for."""
    context = ssl.create_default_context(cafile=roots)
    try:
        with (
            socket.create_connection((address, port), SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=name) as session,
        ):
            found = session.getpeercert() or {}
    except OSError as error:
        return str(error)
    return sorted(value for kind, value in found.get("subjectAltName", ()) if kind == "DNS")


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    rest = (asked["port"], asked["name"], asked["roots"])
    print(json.dumps({address: seen(address, *rest) for address in asked["addresses"]}))
