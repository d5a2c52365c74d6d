"""The driver for Canonical's Multipass: machines through its command line, on Linux and macOS alike.

Read in canonical/multipass at v1.16.3; what shaped this package:

- `launch` returns when cloud-init has ended, and gives up waiting (exit code 5, or 2 from the daemon's own limit) while the instance
  lives on. So it runs beside us, and an instance counts as soon as it runs, has an address and lets us in. Interrupted, it goes on in the
  daemon: an instance that is "being prepared" is in no list yet, but its settings say so.
- A stopped daemon is exit code 2 with a text, not 3. So no exit code alone means "there is no such instance": the list does.
- `ipv4[0]` is the management address, `N/A` or missing for a while; addresses of the machine's own bridges follow, k3s's among them.
  It may be another one after every start.
- A deleted instance keeps its name until it is purged; `recover` brings it back, stopped. `purge` would purge everyone's,
  `delete --purge` does one.
- An instance that did not answer in time is `Unknown`: it can be neither asked nor started, only powered off.
- cpus, memory and disk change only while stopped, the disk only upwards. Sizes are shown to one decimal of a GiB (or MiB): a smaller
  change is not seen.
- Snapshots are taken of stopped instances only, and are deleted only for good.
- Folders are mounted once the machine runs, and can be written to: Multipass has no read-only mounts.

Whose an instance is: Multipass has no labels, so it is kept in two places. `/etc/istio-vms/owner` in the machine, written by cloud-init
before sshd knows any key, so that whoever can look at all sees it: decisive wherever we can look. And a claim on the operator's machine,
written before `launch`, decisive where we cannot: stopped, suspended, deleted, or still booting. An instance with neither is refused
as it stands; nothing is started or purged to find out. One whose mark is gone is ours by its claim, if it has the host key that the claim
has seen.
"""

from actions.machines.multipass.cli import check_host
from actions.machines.multipass.driver import MultipassDriver

__all__ = ["MultipassDriver", "check_host"]
