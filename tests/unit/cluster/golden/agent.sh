set -euo pipefail
exec 3>&1 1>&2
say() { echo "$(hostname): $*" >&2; }
# A run that was killed at the operator's end may still be at it here.
exec 9>/run/istio-vms-k3s.lock
flock -w 300 9 || { say "another run still works on this node after 300 s"; exit 1; }

# install_file PATH CONTENT: writes only what differs, so that an unchanged file does not restart k3s.
install_file() {
  mkdir -p "$(dirname "$1")"
  printf '%s' "$2" | cmp -s - "$1" && return 0
  (umask 077; printf '%s' "$2" >"$1.new"; mv "$1.new" "$1")
}

# see_version VERSION: before k3s is started with it.
see_version() {
  local found
  found=$(/usr/local/bin/k3s --version | awk 'NR == 1 { print $3 }' || true)
  [ "$found" != "$1" ] || return 0
  say "cluster.version is $1, and cluster.binary is k3s ${found:-of no version}: they have to be changed together. k3s was left as it runs"
  exit 1
}

# On a host that someone else made, what there is of k3s later is ours only if there was nothing before.
if [ -e /var/lib/istio-vms/host.json ] && [ ! -e /var/lib/istio-vms/k3s ]; then
  found=
  for path in /etc/systemd/system/k3s.service /etc/systemd/system/k3s.service.env /etc/rancher /var/lib/rancher/k3s /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers /run/k3s /run/flannel /usr/local/bin/k3s /usr/local/bin/kubectl /usr/local/lib/istio-vms/k3s /root/.kube/cache; do
    if [ -e "$path" ] || [ -L "$path" ]; then found="$found $path"; fi
  done
  if [ "$found" ]; then
    say "there is something of Kubernetes on this host already, which is left alone:$found. Remove it, or give another host"
    exit 1
  fi
  [ -e /run/containerd ] || echo /run/containerd >/var/lib/istio-vms/k3s
  touch /var/lib/istio-vms/k3s
fi

ln -sfn k3s /usr/local/bin/kubectl
install_file /etc/rancher/k3s/token "$token"

(
  to=/usr/local/bin/k3s mode=0755 link=
  name=k3s url='' sha256='' checksums='' path=/opt/istio-vms/k3s/k3s
  fail() { echo "$(uname -n): $name: $*" >&2; exit 1; }
  digest() { sha256sum <"$1" | cut -c1-64; }
  listed() {
    name=$name awk '
      { file = substr($0, 67); sub(/^.*\//, "", file); sub(/^[*]/, "", file); only = $1 }
      file == ENVIRON["name"] { print $1; found = 1; exit }
      END { if (!found && NR == 1) print only }' | grep -E '^[0-9a-f]{64}$'
  }
  download() {
    curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' \
      --connect-timeout 15 --retry 5 --retry-delay 2 --output "$2" "$1" || fail "cannot be downloaded from $1"
  }
  tries=0
  while [ -n "$path" ] && [ ! -r "$path" ]; do
    [ "$tries" -lt 180 ] || fail "$path is not there after 180 s; is its folder mounted?"
    tries=$((tries + 1)); sleep 1
  done
  mkdir -p "$(dirname "$to")" || fail "no folder for $to"
  # A run that was killed at the other end may still be at it here; the folder itself is the lock.
  exec 8<"$(dirname "$to")" && flock -w 600 8 || fail "another run still works on $to after 600 s"
  trap 'rm -f "$to.part" "$to.sums"' EXIT
  if [ -n "$path" ]; then
    sums=$(dirname "$path")/SHA256SUMS
    [ -r "$sums" ] || fail "no SHA256SUMS beside $path: run sha256sum in that folder and keep its output there"
    want=$(listed <"$sums") || fail "$sums has no line for it"
  elif [ -n "$checksums" ]; then
    download "$checksums" "$to.sums"
    want=$(listed <"$to.sums") || fail "$checksums has no line for it"
  else
    want=$sha256
  fi
  if [ -n "$path" ] && [ -n "$link" ]; then
    [ "$(digest "$path")" = "$want" ] || fail "$path does not have the SHA-256 digest $want; it is damaged or was replaced"
    ln -sfn "$path" "$to" || fail "no link at $to"
    exit 0
  fi
  if [ -f "$to" ] && [ ! -L "$to" ] && [ "$(digest "$to")" = "$want" ]; then
    chmod "$mode" "$to"
    exit 0
  fi
  if [ -n "$path" ]; then cp "$path" "$to.part" || fail "$path cannot be copied"; else download "$url" "$to.part"; fi
  got=$(digest "$to.part")
  [ "$got" = "$want" ] || fail "the SHA-256 digest of ${path:-$url} is $got and should be $want; it is damaged or was replaced"
  chmod "$mode" "$to.part" && mv -fT "$to.part" "$to" || fail "cannot be put at $to"
) </dev/null || exit 1

see_version v1.32.0+k3s1
(
  to=/usr/local/lib/istio-vms/k3s/tools.tar mode=0644 link=
  name=k3s-tools.tar url='' sha256='' checksums='' path=/opt/istio-vms/k3s/k3s-tools.tar
  fail() { echo "$(uname -n): $name: $*" >&2; exit 1; }
  digest() { sha256sum <"$1" | cut -c1-64; }
  listed() {
    name=$name awk '
      { file = substr($0, 67); sub(/^.*\//, "", file); sub(/^[*]/, "", file); only = $1 }
      file == ENVIRON["name"] { print $1; found = 1; exit }
      END { if (!found && NR == 1) print only }' | grep -E '^[0-9a-f]{64}$'
  }
  download() {
    curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' \
      --connect-timeout 15 --retry 5 --retry-delay 2 --output "$2" "$1" || fail "cannot be downloaded from $1"
  }
  tries=0
  while [ -n "$path" ] && [ ! -r "$path" ]; do
    [ "$tries" -lt 180 ] || fail "$path is not there after 180 s; is its folder mounted?"
    tries=$((tries + 1)); sleep 1
  done
  mkdir -p "$(dirname "$to")" || fail "no folder for $to"
  # A run that was killed at the other end may still be at it here; the folder itself is the lock.
  exec 8<"$(dirname "$to")" && flock -w 600 8 || fail "another run still works on $to after 600 s"
  trap 'rm -f "$to.part" "$to.sums"' EXIT
  if [ -n "$path" ]; then
    sums=$(dirname "$path")/SHA256SUMS
    [ -r "$sums" ] || fail "no SHA256SUMS beside $path: run sha256sum in that folder and keep its output there"
    want=$(listed <"$sums") || fail "$sums has no line for it"
  elif [ -n "$checksums" ]; then
    download "$checksums" "$to.sums"
    want=$(listed <"$to.sums") || fail "$checksums has no line for it"
  else
    want=$sha256
  fi
  if [ -n "$path" ] && [ -n "$link" ]; then
    [ "$(digest "$path")" = "$want" ] || fail "$path does not have the SHA-256 digest $want; it is damaged or was replaced"
    ln -sfn "$path" "$to" || fail "no link at $to"
    exit 0
  fi
  if [ -f "$to" ] && [ ! -L "$to" ] && [ "$(digest "$to")" = "$want" ]; then
    chmod "$mode" "$to"
    exit 0
  fi
  if [ -n "$path" ]; then cp "$path" "$to.part" || fail "$path cannot be copied"; else download "$url" "$to.part"; fi
  got=$(digest "$to.part")
  [ "$got" = "$want" ] || fail "the SHA-256 digest of ${path:-$url} is $got and should be $want; it is damaged or was replaced"
  chmod "$mode" "$to.part" && mv -fT "$to.part" "$to" || fail "cannot be put at $to"
) </dev/null || exit 1

if [ ! -e /usr/local/lib/istio-vms/k3s/.unpacked ] || [ /usr/local/lib/istio-vms/k3s/tools.tar -nt /usr/local/lib/istio-vms/k3s/.unpacked ]; then
  mkdir -p /usr/local/lib/istio-vms/k3s/bin
  tar -xf /usr/local/lib/istio-vms/k3s/tools.tar -C /usr/local/lib/istio-vms/k3s/bin
  touch /usr/local/lib/istio-vms/k3s/.unpacked
fi
for name in containerd crictl ctr; do ln -sfn /usr/local/bin/k3s /usr/local/lib/istio-vms/k3s/bin/$name; done
(
  to=/var/lib/rancher/k3s/agent/images/istio-vms-00.tar mode=0644 link=yes
  name=a.tar url='' sha256='' checksums='' path=/opt/istio-vms/a.tar
  fail() { echo "$(uname -n): $name: $*" >&2; exit 1; }
  digest() { sha256sum <"$1" | cut -c1-64; }
  listed() {
    name=$name awk '
      { file = substr($0, 67); sub(/^.*\//, "", file); sub(/^[*]/, "", file); only = $1 }
      file == ENVIRON["name"] { print $1; found = 1; exit }
      END { if (!found && NR == 1) print only }' | grep -E '^[0-9a-f]{64}$'
  }
  download() {
    curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' \
      --connect-timeout 15 --retry 5 --retry-delay 2 --output "$2" "$1" || fail "cannot be downloaded from $1"
  }
  tries=0
  while [ -n "$path" ] && [ ! -r "$path" ]; do
    [ "$tries" -lt 180 ] || fail "$path is not there after 180 s; is its folder mounted?"
    tries=$((tries + 1)); sleep 1
  done
  mkdir -p "$(dirname "$to")" || fail "no folder for $to"
  # A run that was killed at the other end may still be at it here; the folder itself is the lock.
  exec 8<"$(dirname "$to")" && flock -w 600 8 || fail "another run still works on $to after 600 s"
  trap 'rm -f "$to.part" "$to.sums"' EXIT
  if [ -n "$path" ]; then
    sums=$(dirname "$path")/SHA256SUMS
    [ -r "$sums" ] || fail "no SHA256SUMS beside $path: run sha256sum in that folder and keep its output there"
    want=$(listed <"$sums") || fail "$sums has no line for it"
  elif [ -n "$checksums" ]; then
    download "$checksums" "$to.sums"
    want=$(listed <"$to.sums") || fail "$checksums has no line for it"
  else
    want=$sha256
  fi
  if [ -n "$path" ] && [ -n "$link" ]; then
    [ "$(digest "$path")" = "$want" ] || fail "$path does not have the SHA-256 digest $want; it is damaged or was replaced"
    ln -sfn "$path" "$to" || fail "no link at $to"
    exit 0
  fi
  if [ -f "$to" ] && [ ! -L "$to" ] && [ "$(digest "$to")" = "$want" ]; then
    chmod "$mode" "$to"
    exit 0
  fi
  if [ -n "$path" ]; then cp "$path" "$to.part" || fail "$path cannot be copied"; else download "$url" "$to.part"; fi
  got=$(digest "$to.part")
  [ "$got" = "$want" ] || fail "the SHA-256 digest of ${path:-$url} is $got and should be $want; it is damaged or was replaced"
  chmod "$mode" "$to.part" && mv -fT "$to.part" "$to" || fail "cannot be put at $to"
) </dev/null || exit 1

(
  to=/var/lib/rancher/k3s/agent/images/istio-vms-01.tar mode=0644 link=yes
  name=b.tar url='' sha256='' checksums='' path=/opt/istio-vms/b.tar
  fail() { echo "$(uname -n): $name: $*" >&2; exit 1; }
  digest() { sha256sum <"$1" | cut -c1-64; }
  listed() {
    name=$name awk '
      { file = substr($0, 67); sub(/^.*\//, "", file); sub(/^[*]/, "", file); only = $1 }
      file == ENVIRON["name"] { print $1; found = 1; exit }
      END { if (!found && NR == 1) print only }' | grep -E '^[0-9a-f]{64}$'
  }
  download() {
    curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' \
      --connect-timeout 15 --retry 5 --retry-delay 2 --output "$2" "$1" || fail "cannot be downloaded from $1"
  }
  tries=0
  while [ -n "$path" ] && [ ! -r "$path" ]; do
    [ "$tries" -lt 180 ] || fail "$path is not there after 180 s; is its folder mounted?"
    tries=$((tries + 1)); sleep 1
  done
  mkdir -p "$(dirname "$to")" || fail "no folder for $to"
  # A run that was killed at the other end may still be at it here; the folder itself is the lock.
  exec 8<"$(dirname "$to")" && flock -w 600 8 || fail "another run still works on $to after 600 s"
  trap 'rm -f "$to.part" "$to.sums"' EXIT
  if [ -n "$path" ]; then
    sums=$(dirname "$path")/SHA256SUMS
    [ -r "$sums" ] || fail "no SHA256SUMS beside $path: run sha256sum in that folder and keep its output there"
    want=$(listed <"$sums") || fail "$sums has no line for it"
  elif [ -n "$checksums" ]; then
    download "$checksums" "$to.sums"
    want=$(listed <"$to.sums") || fail "$checksums has no line for it"
  else
    want=$sha256
  fi
  if [ -n "$path" ] && [ -n "$link" ]; then
    [ "$(digest "$path")" = "$want" ] || fail "$path does not have the SHA-256 digest $want; it is damaged or was replaced"
    ln -sfn "$path" "$to" || fail "no link at $to"
    exit 0
  fi
  if [ -f "$to" ] && [ ! -L "$to" ] && [ "$(digest "$to")" = "$want" ]; then
    chmod "$mode" "$to"
    exit 0
  fi
  if [ -n "$path" ]; then cp "$path" "$to.part" || fail "$path cannot be copied"; else download "$url" "$to.part"; fi
  got=$(digest "$to.part")
  [ "$got" = "$want" ] || fail "the SHA-256 digest of ${path:-$url} is $got and should be $want; it is damaged or was replaced"
  chmod "$mode" "$to.part" && mv -fT "$to.part" "$to" || fail "cannot be put at $to"
) </dev/null || exit 1

install_file /etc/rancher/k3s/config.yaml 'kubelet-arg:
- cgroup-driver=cgroupfs
node-ip: 10.89.9.9
node-name: lab-agent-1
server: https://10.89.0.11:6443
token-file: /etc/rancher/k3s/token
'
install_file /etc/systemd/system/k3s.service '[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
Environment=PATH=/usr/local/lib/istio-vms/k3s/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EnvironmentFile=-/etc/systemd/system/k3s.service.env
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=no
RestartSec=2s
ExecStartPre=-/sbin/modprobe -a br_netfilter overlay
ExecStart=/usr/local/bin/k3s agent
UnsetEnvironment=INVOCATION_ID

[Install]
WantedBy=multi-user.target
'
install_file /var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl 'version = 2
# it'"'"'s {{ .SystemdCgroup }}
'
# What k3s runs with, in one digest: a node is restarted when it differs from what it was last started with.
inputs=$( (stat -c '%i %Y %s' /usr/local/bin/k3s
  cat /etc/rancher/k3s/{config.yaml,config.yaml.d/join.yaml,token} /etc/systemd/system/k3s.service \
    /var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl
) 2>/dev/null | sha256sum | cut -d' ' -f1 || true)
if [ "$(cat /run/istio-vms-k3s.inputs 2>/dev/null)" != "$inputs" ] || ! systemctl is-active --quiet k3s; then
  say "starting k3s"
  systemctl daemon-reload
  systemctl enable --quiet k3s
  systemctl reset-failed k3s 2>/dev/null || true
  systemctl restart --no-block k3s
  echo "$inputs" >/run/istio-vms-k3s.inputs
fi

give_up() {
  journalctl -u k3s -o cat -n 400 --no-pager | grep -E 'level=(error|fatal)|^E[0-9]' | tail -n 8 | cut -c1-400 >&2
  rm -f /run/istio-vms-k3s.inputs
  say "$1; the last errors of k3s are above, all of them in: journalctl -u k3s"
  exit 1
}

# until_ready WHAT COMMAND…: a k3s that keeps ending is not waited for.
until_ready() {
  local what=$1 tries=0
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(systemctl show -p NRestarts --value k3s)" -lt 4 ] || give_up "k3s keeps ending"
    [ $((tries += 1)) -lt 720 ] || give_up "$what was not ready after 180 s"
    sleep 0.25
  done
  say "$what is ready"
}
until_ready "the kubelet" curl -fsS -m 2 http://127.0.0.1:10248/healthz
