#!/usr/bin/env python3
"""The sample application of a VM: says who it is and what a request looked like when it arrived.

Sent to the machine as text, so it needs nothing but the standard library, works from Python 3.9 on, and imports nothing of ours.

    GET /         {"service": "hello", "instance": "vm-1", "version": "v1"}
    GET /hello    Hello version: v1, instance: vm-1           (text, as Istio's helloworld answers)
    GET /headers  the request's headers, names in lower case; behind a sidecar `x-forwarded-client-cert` names the caller

Any other path is 404. Every answer says in the headers `X-Instance` and `X-Version` who gave it. While the fault file is there `/hello` and
`/headers` answer 503; `/`, which a health probe asks, goes on answering 200.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast


class Application(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer by path."""
        server = cast(Server, self.server)
        identity, path = server.identity, self.path.partition("?")[0]
        if path in ("/hello", "/headers") and server.fault_file and server.fault_file.exists():
            self._answer(503, "text/plain", f"made to fail by {server.fault_file}")
        elif path == "/":
            self._answer(200, "application/json", json.dumps(identity))
        elif path == "/hello":
            self._answer(200, "text/plain", "Hello version: {version}, instance: {instance}".format(**identity))
        elif path == "/headers":
            shown = {name.lower(): value for name, value in self.headers.items()}
            self._answer(200, "application/json", json.dumps(shown))
        else:
            self._answer(404, "application/json", json.dumps({"error": "not found"}))

    def _answer(self, status: int, kind: str, line: str) -> None:
        identity = cast(Server, self.server).identity
        body = line.encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Instance", identity["instance"])
        self.send_header("X-Version", identity["version"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the journal free of one line per health probe."""


class Server(ThreadingHTTPServer):
    """Listens on one port; `identity` is what `/` shows."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], identity: dict[str, str], fault_file: Path | None) -> None:
        """Bind at once: a port that is taken is an error here."""
        super().__init__(address, Application)
        self.identity = identity
        self.fault_file = fault_file

    def server_bind(self) -> None:
        """Bind without looking up the host's own name, which may wait for a DNS server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.socket.getsockname()[1]


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="The sample application of a VM.")
    parser.add_argument("--service", required=True, help="the service's name")
    parser.add_argument("--version", default="v1", help="the service's version")
    parser.add_argument("--bind", default="", help="the address to listen on; all of them by default")
    parser.add_argument("--port", type=int, action="append", required=True, help="a port to listen on; may be repeated")
    parser.add_argument("--fault-file", type=Path, help="while this file is there, fail; never without it")
    args = parser.parse_args()
    identity = {"service": args.service, "instance": socket.gethostname(), "version": args.version}
    servers = [Server((args.bind, port), identity, args.fault_file) for port in args.port]
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait(signals)


if __name__ == "__main__":
    main()
