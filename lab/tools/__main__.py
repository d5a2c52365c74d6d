"""Command line: `python -m lab.tools install|doctor|path`."""

from __future__ import annotations

import argparse
import sys

from lab.tools import plugins
from lab.tools.cache import bin_directory
from lab.tools.doctor import doctor
from lab.tools.install import install
from lab.tools.recipes import PLUGINS, TOOLS


def main() -> int:
    """Do what the command line asks."""
    names = [tool.name for tool in TOOLS]
    usual = [tool.name for tool in TOOLS if not tool.optional]
    optional = [tool.name for tool in TOOLS if tool.optional]
    parser = argparse.ArgumentParser(
        prog="python -m lab.tools", description="The lab's tools: pinned, verified, kept in the user's cache."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    get = commands.add_parser(
        "install", help="get every tool that is not optional, or the named ones and what they need"
    )
    listed = f"one of: {', '.join(usual)}; optional: {', '.join(optional)}"
    get.add_argument("names", nargs="*", metavar="NAME", help=listed)
    get.add_argument("--jobs", type=int, default=2, metavar="N", help="builds at a time (default: 2)")
    get.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to do")
    commands.add_parser("doctor", help="what is there, from which source, and what is missing")
    commands.add_parser("path", help="the folders to put on PATH, one per line")
    arguments = parser.parse_args()
    match arguments.command:
        case "install":
            if unknown := set(arguments.names) - set(names):
                parser.error(f"no such tool: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
            if arguments.jobs < 1:
                parser.error("--jobs: at least 1")
            return install(arguments.names or usual, arguments.jobs, arguments.quiet)
        case "doctor":
            return doctor()
        case _:
            print(bin_directory())
            if not all(plugins.installed(name) for name in PLUGINS):
                print(plugins.STAND_INS)
            return 0


if __name__ == "__main__":
    sys.exit(main())
