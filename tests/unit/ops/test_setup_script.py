"""`ops/setup` on machines whose package database says different things."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
KNOWN = ["ca-certificates", "curl", "gcc", "git", "make"]


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A folder for PATH's front, whose apt-get writes down what it is asked."""
    commands = {
        "id": "echo 0",
        "dpkg-query": 'cat "$(dirname "$0")/packages"; exit 1',
        "apt-get": 'echo "$@" >>"$(dirname "$0")/asked"',
    }
    for name, script in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def _setup(system: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PATH": f"{system}:{os.environ['PATH']}"}
    return subprocess.run([ROOT / "ops/setup"], env=env, capture_output=True, text=True, check=False)


def test_a_new_machine_gets_what_dpkg_has_never_heard_of(system: Path) -> None:
    (system / "packages").write_text("".join(f"installed {name}\n" for name in KNOWN) + "not-installed kmod\n")
    ran = _setup(system)
    assert ran.returncode == 0, ran.stderr
    asked = (system / "asked").read_text().split()
    assert {"debootstrap", "dnsmasq-base", "systemd-container", "iptables", "kmod"} <= set(asked)
    assert not set(KNOWN) & set(asked)
    assert "installing system packages" in ran.stderr


def test_a_machine_that_has_everything_is_left_alone(system: Path) -> None:
    script = (ROOT / "ops/setup").read_text()
    needed = script.partition("packages=(")[2].partition(")")[0].split()
    assert set(KNOWN) < set(needed)
    (system / "packages").write_text("".join(f"installed {name}\n" for name in needed))
    ran = _setup(system)
    assert ran.returncode == 0, ran.stderr
    assert not (system / "asked").exists()


def test_packages_that_cannot_be_had_are_named(system: Path) -> None:
    (system / "packages").write_text("".join(f"installed {name}\n" for name in KNOWN))
    (system / "apt-get").write_text('#!/bin/sh\n[ "$1" = update ] || exit 100\n')
    ran = _setup(system)
    assert ran.returncode == 1
    message = ran.stderr.splitlines()[-1]
    assert message.startswith("setup: apt-get could not install: ")
    named = message.rpartition(": ")[2].split()
    assert {"debootstrap", "dnsmasq-base", "systemd-container"} <= set(named)
    assert not set(KNOWN) & set(named)


@pytest.fixture
def mac(tmp_path: Path) -> Path:
    """A folder that is all of PATH: what macOS has of what the script calls, and no apt-get."""
    for name in ("bash", "cat", "cksum", "dirname", "git", "ssh", "curl", "python3"):
        found = sys.executable if name == "python3" else shutil.which(name)
        assert found, name
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {found} "$@"\n')
    for name, answer in {"uname": "Darwin", "id": "501"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {answer}\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    return tmp_path


def _setup_on(mac: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "ops/setup"], env={"PATH": str(mac), "HOME": str(mac)}, capture_output=True, text=True, check=False
    )


def test_macos_needs_no_package_manager(mac: Path) -> None:
    ran = _setup_on(mac)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_mac_without_a_new_python_is_told_of_brew(mac: Path) -> None:
    (mac / "python3").write_text("#!/bin/sh\nexit 1\n")
    ran = _setup_on(mac)
    assert ran.returncode == 1
    assert ran.stderr == "setup: Python 3.11 or newer is needed. Install it (brew install python@3.13) and run again.\n"


def test_a_mac_without_the_command_line_tools_is_told_so(mac: Path) -> None:
    (mac / "git").unlink()
    ran = _setup_on(mac)
    assert ran.returncode == 1
    assert ran.stderr == "setup: git not found. Install Apple's command line tools: xcode-select --install\n"


def test_the_script_has_nothing_that_bash_3_does_not_know_outside_of_debians_part() -> None:
    """macOS has bash 3.2: no mapfile, no associative arrays, no ${x,,}, no &>>."""
    text = (ROOT / "ops/setup").read_text()
    before, _, rest = text.partition('if [ "$(id -u)" = 0 ] && command -v apt-get')
    _, _, after = rest.partition("\nfi\n")
    assert after
    assert not re.search(r"mapfile|readarray|declare -A|\$\{\w+(,,|\^\^)|&>>|readlink -f|sed -r", before + after)
