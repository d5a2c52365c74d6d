"""k3s on a host that someone else made: put there only where there was none, and taken away again with all it leaves behind.

After `k3s-killall.sh` and `k3s-uninstall.sh`, which k3s's own installer writes (https://github.com/k3s-io/k3s/blob/v1.32.0%2Bk3s1/install.sh).
"""

from __future__ import annotations

HOST = "/var/lib/istio-vms/host.json"
"""What the driver `existing` notes on a host that it takes; see `actions/machines/on_host.py`."""
MARK = "/var/lib/istio-vms/k3s"
PLACES = (
    "/etc/systemd/system/k3s.service", "/etc/systemd/system/k3s.service.env", "/etc/rancher", "/var/lib/rancher/k3s", "/var/lib/kubelet",
    "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/run/k3s", "/run/flannel", "/usr/local/bin/k3s", "/usr/local/bin/kubectl",
    "/usr/local/lib/istio-vms/k3s", "/root/.kube/cache",
)  # fmt: skip
"""All that k3s and the script of a node write, besides network devices and packet filter rules."""
SOCKETS = "/run/containerd"
"""Of containers' shims, those of a Docker or a containerd of the host's own too: noted in the mark when it was not there before."""

TAKE = f"""\
# On a host that someone else made, what there is of k3s later is ours only if there was nothing before.
if [ -e {HOST} ] && [ ! -e {MARK} ]; then
  found=
  for path in {" ".join(PLACES)}; do
    if [ -e "$path" ] || [ -L "$path" ]; then found="$found $path"; fi
  done
  if [ "$found" ]; then
    say "there is something of Kubernetes on this host already, which is left alone:$found. Remove it, or give another host"
    exit 1
  fi
  [ -e {SOCKETS} ] || echo {SOCKETS} >{MARK}
  touch {MARK}
fi
"""

REMOVE = f"""\
set -u
[ -e {MARK} ] || exit 0
systemctl disable --now k3s 2>/dev/null

# Containers outlive k3s: their shims and everything below those.
tree() {{ local child; for child in $(pgrep -P "$1"); do tree "$child"; done; echo "$1"; }}
for shim in $(pgrep -f 'containerd-shim-runc-v2 .*-address /run/k3s/'); do
  kill -9 $(tree "$shim") 2>/dev/null
done

# The innermost first. What a process that is just ending still holds is let go of by the kernel.
awk '$2 ~ "^(/run/k3s|/var/lib/rancher/k3s|/var/lib/kubelet|/run/netns/cni-)" {{ print $2 }}' /proc/self/mounts | sort -r |
  while read -r mount; do umount -l "$mount"; done
rm -f /run/netns/cni-*
for device in $(ip -o link show master cni0 2>/dev/null | awk -F'[:@ ]+' '{{ print $2 }}') cni0 flannel.1 flannel-v6.1 kube-ipvs0; do
  ip link delete "$device" 2>/dev/null
done
# Removed by themselves: everything else in these tables is somebody else's.
for family in iptables ip6tables; do
  command -v $family-save >/dev/null || continue
  $family-save | grep -viE 'KUBE-|CNI-|flannel' | $family-restore
done

rm -rf {" ".join(PLACES)} /run/istio-vms-k3s.*
rmdir /var/lib/rancher /usr/local/lib/istio-vms /root/.kube /run/netns 2>/dev/null  # where nobody else has anything in them
grep -qx {SOCKETS} {MARK} && rm -rf {SOCKETS}
systemctl daemon-reload
systemctl reset-failed k3s 2>/dev/null
rm -f {MARK}
"""
"""Bash for root: takes away what a node's script and k3s have put on a host; nothing where they never were."""
