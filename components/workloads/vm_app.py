#!/usr/bin/env python3
"""The sample application of a VM: says who it is and what a request looked like when it arrived.

Sent to the machine as text, so it needs nothing but the standard library, works from Python 3.9 on, and imports nothing of ours.

    GET /         {"service": "hello", "instance": "vm-1", "version": "v1"}
    GET /headers  the request's headers, names in lower case; behind a sidecar `x-forwarded-client-cert` names the caller

Any other path is 404. Every answer says in the header `X-Instance` which machine it is from.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast


class Application(BaseHTTPRequestHandler):
    """Answers one request; the server's `identity` is what `/` shows."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with JSON."""
        identity = cast(Server, self.server).identity
        answers = {"/": identity, "/headers": {name.lower(): value for name, value in self.headers.items()}}
        answer = answers.get(self.path.partition("?")[0])
        body = json.dumps(answer if answer is not None else {"error": "not found"}).encode() + b"\n"
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Instance", identity["instance"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the journal free of one line per health probe."""


class Server(ThreadingHTTPServer):
    """Listens on one port."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], identity: dict[str, str]) -> None:
        """Bind at once: a port that is taken is an error here."""
        super().__init__(address, Application)
        self.identity = identity

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
    args = parser.parse_args()
    identity = {"service": args.service, "instance": socket.gethostname(), "version": args.version}
    servers = [Server((args.bind, port), identity) for port in args.port]
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait(signals)


if __name__ == "__main__":
    main()
