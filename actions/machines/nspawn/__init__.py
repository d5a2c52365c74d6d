"""Machines that are systemd-nspawn containers on bridges of ours: a whole lab on one Linux box without a hypervisor."""

from actions.machines.nspawn.driver import NspawnDriver, check_host

__all__ = ["NspawnDriver", "check_host"]
