"""The command line `istio-vms`."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable

import typer
from rich.console import Console
from rich.markup import escape

from actions.protocol import Failure
from commands import life, machines, pull_request, stacks, verify
from ops.errors import Interrupted, OpsError

Command = Callable[..., int]


def _guarded(command: Command) -> Callable[..., None]:
    """Says what went wrong for people, and ends with the code that the command gives."""

    @functools.wraps(command)
    def guarded(*args: object, **options: object) -> None:
        try:
            try:
                code = command(*args, **options)
            except KeyboardInterrupt:
                raise Interrupted("interrupted; the same command goes on from here") from None
        except (OpsError, Failure) as error:
            errors = Console(stderr=True, soft_wrap=True, emoji=False)
            errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
            code = error.code if isinstance(error, OpsError) else 1
        raise typer.Exit(code)

    return guarded


app = typer.Typer(
    help="Virtual machines, a k3s cluster on them, Istio, and VMs that are members of the mesh.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for each in (
    life.up, life.down, life.preview, life.policy,
    machines.status, verify.verify, machines.ssh, machines.rejoin, machines.snapshot, machines.kubeconfig,
    stacks.new_stack, stacks.diff_stacks, stacks.docs, stacks.env,
):  # fmt: skip
    app.command()(_guarded(each))
of_pull_requests = typer.Typer(help="What a pull request changes, for its readers.", no_args_is_help=True)
for each in (pull_request.preview, pull_request.comment, pull_request.stacks):
    of_pull_requests.command()(_guarded(each))
app.add_typer(of_pull_requests, name="pull-request")
app.command(context_settings={"ignore_unknown_options": True})(_guarded(stacks.run))


def main() -> int:
    """0 when all is well, 2 for wrong arguments, 130 when interrupted, else 1."""
    try:
        app([*sys.argv[1:], *_of_make()], prog_name="istio-vms")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _of_make() -> list[str]:
    """The flags that `make … ARGS=` gave, which no shell has touched. For `ssh` they are one command of the machine's shell."""
    if len(sys.argv) > 2 + (sys.argv[1:2] == ["pull-request"]) or sys.argv[1:2] == ["ssh"]:
        return []
    try:
        return shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        print(f"error: ARGS: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    sys.exit(main())
