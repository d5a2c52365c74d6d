"""How long `make preview` takes with many VMs, beside a flat program of as many commands.

    python -m bench.preview --vms 100 --runs 3

Nothing is made: no cluster, no machine and no state is needed. Needs the tools of `make tools`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml
from rich.console import Console
from rich.table import Table

from ops.workspace import environment

ROOT = Path(__file__).resolve().parent.parent
STACK = "bench-preview"


def ours(folder: Path, vms: int) -> float:
    """Seconds of `make preview` of stack dev with so many VMs in its first workload."""
    file = ROOT / f"Pulumi.{STACK}.yaml"
    config = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
    workload = config["istio-vms:workloads"][0]
    workload["vms"] = [{**workload["vms"][0], "name": f"many-{number}"} for number in range(vms)]
    # Policies let a stack that they do not know expose nothing, so there are no samples that call through the gateway.
    config["istio-vms:mesh"]["exposedServices"] = []
    config |= {"istio-vms:samples": {"enabled": False}, "istio-vms:traffic": [], "istio-vms:policies": {}}
    file.write_text(yaml.safe_dump({"config": config}))
    try:
        env = {**os.environ, "STACK": STACK, "XDG_STATE_HOME": str(folder)}
        return _seconds([sys.executable, "-m", "commands", "preview"], ROOT, env)
    finally:
        file.unlink()


def flat(folder: Path, vms: int) -> float:
    """Seconds of `pulumi preview` of the flat program."""
    env = {
        **environment(),
        "PULUMI_BACKEND_URL": folder.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "bench",
    }
    env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
    project = folder / "flat"
    project.mkdir()
    for name in ("Pulumi.yaml", "__main__.py"):
        (project / name).write_text((ROOT / "bench/flat" / name).read_text())
    for words in (["stack", "init", "many"], ["config", "set", "vms", str(vms)]):
        _seconds(["pulumi", *words, "--non-interactive"], project, env)
    return _seconds(["pulumi", "preview", "--non-interactive"], project, env)


def _seconds(command: list[str], folder: Path, env: dict[str, str]) -> float:
    begun = time.monotonic()
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return time.monotonic() - begun


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.preview", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vms", type=int, default=100, metavar="N", help="how many VMs (default: 100)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="how often to measure both (default: 3)")
    arguments = parser.parse_args()
    measured: dict[str, list[float]] = {"make preview": [], "the flat program": []}
    for _ in range(arguments.runs):
        for title, measure in zip(measured, (ours, flat), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                measured[title].append(measure(Path(folder), arguments.vms))
    table = Table(f"seconds, {arguments.vms} VMs", *map(str, range(1, arguments.runs + 1)), "median", box=None)
    for title, seconds in measured.items():
        table.add_row(title, *(f"{value:.1f}" for value in [*seconds, median(seconds)]))
    Console().print(table)
    first, second = map(median, measured.values())
    print(f"ratio {first / second:.2f}")


if __name__ == "__main__":
    main()
