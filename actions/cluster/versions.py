"""Versions of Kubernetes: k3s's releases, which of them an Istio takes, and from which to which a cluster may go. Pure."""

from __future__ import annotations

import re
import shlex

OLDEST_FOR = {(1, 30): (1, 32)}
"""From which Istio on which Kubernetes is the oldest: `MinK8SVersion` in Istio's `istioctl/pkg/install/k8sversion/version.go`, the same
in 1.30 and 1.31; https://istio.io/latest/docs/releases/supported-releases/ has what each is tested with."""


def oldest_for(istio: str) -> tuple[int, int]:
    """The oldest Kubernetes, such as (1, 32), that an Istio such as 1.30.5 works with."""
    minor = re.match(r"1\.(\d+)", istio)
    version = (1, int(minor[1]) if minor else 0)
    return max((need for since, need in OLDEST_FOR.items() if since <= version), default=min(OLDEST_FOR.values()))


def numbers(release: str) -> tuple[int, ...] | None:
    """(1, 36, 5, 1) of v1.36.5+k3s1; None of what is no k3s release."""
    found = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)\+k3s(\d+)", release)
    return tuple(map(int, found.groups())) if found else None


def why_not(old: str, new: str) -> str:
    """Why a cluster of one k3s release cannot become another; empty when it can.

    See https://kubernetes.io/releases/version-skew-policy/ and https://docs.k3s.io/upgrades.
    """
    before, after = numbers(old), numbers(new)
    if before is None or after is None or before == after:
        return ""
    if after < before:
        return _BACK.format(old=old)
    if after[0] > before[0] or after[1] > before[1] + 1:
        return _ONE.format(old=old, next=f"v{before[0]}.{before[1] + 1}")
    return ""


_BACK = (
    "the cluster is of {old}, and Kubernetes does not go back. Say that release or a later one; for an older one make another cluster: "
    "`make down`, then `make up`"
)
_ONE = "the cluster is of {old}, and Kubernetes goes one minor version at a time. Say a release of {next} first, `make up`, then go on"


def see_step_script(release: str) -> str:
    """Bash, after the node script's prologue: ends it when what has run on the node cannot become `release`, as `why_not` says."""
    return f"""\
# Before anything is replaced; what has never run made nothing that would have to be read by another.
see_step() {{
  local old from to
  [ -x /usr/local/bin/k3s ] && {{ [ -d {_DATA}/server/db ] || [ -e {_DATA}/agent/kubelet.kubeconfig ]; }} || return 0
  old=$(/usr/local/bin/k3s --version | awk 'NR == 1 {{ print $3 }}' || true)
  [[ "$old" =~ ^v[0-9]+\\.[0-9]+\\.[0-9]+\\+k3s[0-9]+$ && "$old" != "$1" ]] || return 0
  IFS=.+ read -r -a from <<<"${{old#v}}"
  IFS=.+ read -r -a to <<<"${{1#v}}"
  if [ "$(printf '%s\\n' "$old" "$1" | sort -V | head -n 1)" = "$1" ]; then
    say "cluster.version: $1: {_bash(_BACK.format(old="$old"))}"
  elif [ "${{to[0]}}" -gt "${{from[0]}}" ] || [ "${{to[1]}}" -gt $((from[1] + 1)) ]; then
    say "cluster.version: $1: {_bash(_ONE.format(old="$old", next="v${from[0]}.$((from[1] + 1))"))}"
  else
    return 0
  fi
  exit 1
}}
see_step {shlex.quote(release)}
"""


_DATA = "/var/lib/rancher/k3s"


def _bash(text: str) -> str:
    """For between double quotes."""
    return text.replace("`", "\\`")
