"""Image archives on a node: what they may be called, and bash that keeps those of the settings there and loads them. Pure.

k3s loads what is in its folder as it starts, before the first pod, and tells by a file's name how it is compressed; what it cannot read it
passes over with a line in its log (`pkg/agent/containerd/containerd.go`). See https://docs.k3s.io/installation/airgap.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from actions.artifacts import MachineArtifact, fetch_script

FOLDER = "/var/lib/rancher/k3s/agent/images"
_SUFFIXES = {".gz": ".tar.gz", ".tgz": ".tar.gz", ".zst": ".tar.zst", ".tzst": ".tar.zst"}
_OTHERS = (".bz2", ".lz4", ".rar", ".tbz", ".tbz2", ".txt", ".txz", ".xz", ".zip", ".7z")
TAKEN = ".tar, .tar.gz, .tgz, .tar.zst, .tzst"
"""What archives may be called, for people. k3s reads .tar.lz4 and .tar.bz2 too; containerd, by which a running node loads, does not."""


def suffix(name: str) -> str | None:
    """What an archive's name has to end with on a node; None for one that cannot be loaded."""
    lower = name.lower()
    if lower.endswith(_OTHERS):
        return None
    return next((one for end, one in _SUFFIXES.items() if lower.endswith(end)), ".tar")


def keep_script(images: Sequence[MachineArtifact], tools: str) -> str:
    """Bash, after the node script's prologue: ends with the archives in k3s's folder, and with none of former settings.

    Args:
        images: the archives, in the order in which k3s is to load them.
        tools: a folder for programs that k3s has inside.
    """
    names = [f"istio-vms-{i:02d}{suffix(image.name) or '.tar'}" for i, image in enumerate(images)]
    parts = [_FUNCTIONS.format(folder=FOLDER, tools=tools), "note_earlier"]
    for name, image in zip(names, images, strict=True):
        parts.append(fetch_script(image, f"{FOLDER}/{name}", link=True))
        parts.append(f"see_archive {FOLDER}/{name} {shlex.quote(image.name)}")
    return "\n".join([*parts, f"keep_archives {' '.join(names)}".rstrip()])


LOAD = "load_archives"
"""Bash, once k3s runs: loads what it has not loaded."""

_FUNCTIONS = """\
loaded=/run/istio-vms-k3s.images
# is_loaded FILE: whether k3s has the archive as it is in its folder.
is_loaded() {{ grep -qxF "$(stat -L -c "${{1##*/}} %i %.9Y %s" "$1")" "$loaded" 2>/dev/null; }}
note_loaded() {{ is_loaded "$1" || stat -L -c "${{1##*/}} %i %.9Y %s" "$1" >>"$loaded"; }}

# note_earlier: k3s has loaded what was there when it started; an earlier version of this script noted nothing of that.
note_earlier() {{
  local file stamp since
  [ ! -e "$loaded" ] && ls {folder}/istio-vms-* >/dev/null 2>&1 || return 0
  stamp=$(systemctl show -p ExecMainStartTimestamp --value k3s 2>/dev/null || true)
  [ "$stamp" ] || return 0
  since=$(date -d "$stamp" +%s)
  for file in {folder}/istio-vms-*; do
    [ -e "$file" ] || continue
    [ "$(stat -c %Z "$file")" -ge "$since" ] || [ "$(stat -L -c %Z "$file")" -ge "$since" ] || note_loaded "$file"
  done
}}

# see_archive FILE NAME: k3s would pass over what it cannot read, and pods would wait for their images for ever.
see_archive() {{
  local members=
  ! is_loaded "$1" || return 0
  case "$1" in
    *.tar.gz) members=$(gzip -dc "$1" 2>/dev/null | tar -tf - 2>/dev/null || true) ;;
    *.tar.zst) [ "$(od -An -tx1 -N4 "$1" | tr -d ' ')" != 28b52ffd ] || return 0 ;;
    *) members=$(tar -tf - <"$1" 2>/dev/null || true) ;;
  esac
  ! grep -qxE '(\\./)?(index|manifest)\\.json' <<<"$members" || return 0
  say "$2 of cluster.images is no archive of images, or not compressed as its name says; k3s was left as it runs"
  rm -f "$1"
  exit 1
}}

# keep_archives NAME…: the others are of former settings.
keep_archives() {{
  local file
  for file in {folder}/istio-vms-*; do
    case " $* " in *" ${{file##*/}} "*) ;; *) rm -f "$file" ;; esac
  done
}}

containerd_images() {{ {tools}/bin/ctr -a /run/k3s/containerd/containerd.sock -n k8s.io images "$@"; }}
listed_images() {{ containerd_images ls | awk 'NR > 1 {{ print $1, $3 }}' | sort; }}

# load_archives: k3s loads them as it starts. One that runs is given what is new, marked as it marks its own: not to be cleared away.
load_archives() {{
  local file name before
  [ ! "${{started:-}}" ] || : >"$loaded"
  mkdir -p {tools}/bin
  ln -sfn /usr/local/bin/k3s {tools}/bin/ctr
  for file in {folder}/istio-vms-*; do
    [ -e "$file" ] || continue
    if [ ! "${{started:-}}" ] && ! is_loaded "$file"; then
      name="${{file##*/}}$([ ! -L "$file" ] || echo " ($(basename "$(readlink "$file")"))")"
      say "loading images of $name"
      before=$(listed_images)
      containerd_images import --local=false "$file" >/dev/null || {{ say "$name: containerd cannot load it"; exit 1; }}
      comm -13 <(echo "$before") <(listed_images) | while read -r image _; do
        containerd_images label "$image" io.cattle.k3s.pinned=pinned io.cri-containerd.pinned=pinned >/dev/null
      done
    fi
    note_loaded "$file"
  done
}}
"""
