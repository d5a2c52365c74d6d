"""Machines from a command line: `python -m components.machines ensure|update|snapshot|delete|list`.

One JSON document on stdin, one on stdout (both in docs/design.md); progress on stderr, whose last line after a failure
says what to do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from components.machines.driver import DriverError, MachineSpec, TakesSnapshots
from components.machines.drivers import driver

Document = Mapping[str, Any]


def ensure(document: Document) -> Any:
    """Make, adopt, start or resize the machine of a `MachineSpec`; a `MachineState`."""
    spec = MachineSpec.parse(document)
    return driver(spec.driver).ensure(spec, progress).as_document()


def update(document: Document) -> Any:
    """Start or resize the machine of a `MachineSpec` as it is; a `MachineState`."""
    spec = MachineSpec.parse(document)
    return driver(spec.driver).update(spec, progress).as_document()


def snapshot(document: Document) -> Any:
    """Take a snapshot of the machine of a `MachineSpec`; a `Snapshot`."""
    spec = MachineSpec.parse(document)
    able = driver(spec.driver)
    if not isinstance(able, TakesSnapshots):
        raise DriverError(f"machines of driver {spec.driver} have no snapshots; those of multipass do")
    return able.snapshot(spec, progress).as_document()


def delete(document: Document) -> Any:
    """Remove the machine `{driver, name, owner, options}`; `{}`."""
    check_keys(document, {"driver", "name", "owner"})
    driver(document["driver"]).delete(document["name"], document["owner"], document.get("options", {}), progress)
    return {}


def list_machines(document: Document) -> Any:
    """The machines of `{driver, owner, options}`; a list of `MachineState`."""
    check_keys(document, {"driver", "owner"})
    states = driver(document["driver"]).list(document["owner"], document.get("options", {}))
    return [state.as_document() for state in states]


VERBS: dict[str, Callable[[Document], Any]] = {
    "ensure": ensure,
    "update": update,
    "snapshot": snapshot,
    "delete": delete,
    "list": list_machines,
}


def check_keys(document: Document, required: set[str]) -> None:
    """Refuse a document without these keys or with one that no machine has; a whole `MachineSpec` will do."""
    known = {field.name for field in dataclasses.fields(MachineSpec)}
    if wrong := sorted((required - set(document)) | (set(document) - known)):
        raise DriverError(f"missing or unknown keys: {', '.join(wrong)}")


def progress(line: str) -> None:
    """Tell a person."""
    print(line, file=sys.stderr, flush=True)


def read_document() -> Document:
    """The JSON object on stdin."""
    try:
        document: object = json.load(sys.stdin)
    except json.JSONDecodeError as error:
        raise DriverError(f"stdin is no JSON document: {error}") from error
    if not isinstance(document, dict):
        raise DriverError("stdin has to be one JSON object, see docs/design.md")
    return cast("Document", document)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m components.machines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ensure|update|snapshot|delete|list")
    for name, function in VERBS.items():
        verbs.add_parser(name, help=function.__doc__, description=function.__doc__)
    verb = parser.parse_args().verb
    try:
        json.dump(VERBS[verb](read_document()), sys.stdout)
    except DriverError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
