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
  found=$("$binary" --version | awk 'NR == 1 { print $3 }' || true)
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

# Before anything is replaced; what has never run made nothing that would have to be read by another.
see_step() {
  local old from to
  [ -x /usr/local/bin/k3s ] && { [ -d /var/lib/rancher/k3s/server/db ] || [ -e /var/lib/rancher/k3s/agent/kubelet.kubeconfig ]; } || return 0
  old=$(/usr/local/bin/k3s --version | awk 'NR == 1 { print $3 }' || true)
  [[ "$old" =~ ^v[0-9]+\.[0-9]+\.[0-9]+\+k3s[0-9]+$ && "$old" != "$1" ]] || return 0
  IFS=.+ read -r -a from <<<"${old#v}"
  IFS=.+ read -r -a to <<<"${1#v}"
  if [ "$(printf '%s\n' "$old" "$1" | sort -V | head -n 1)" = "$1" ]; then
    say "cluster.version: $1: the cluster is of $old, and Kubernetes does not go back. Say that release or a later one; for an older one make another cluster: \`make down\`, then \`make up\`"
  elif [ "${to[0]}" -gt "${from[0]}" ] || [ "${to[1]}" -gt $((from[1] + 1)) ]; then
    say "cluster.version: $1: the cluster is of $old, and Kubernetes goes one minor version at a time. Say a release of v${from[0]}.$((from[1] + 1)) first, \`make up\`, then go on"
  else
    return 0
  fi
  exit 1
}
see_step v1.32.0+k3s1

ln -sfn k3s /usr/local/bin/kubectl
install_file /etc/rancher/k3s/token "$token"

# The binary is looked at before it takes the other one's place.
binary=/usr/local/lib/istio-vms/k3s/k3s
mkdir -p /usr/local/lib/istio-vms/k3s
[ -e "$binary" ] || [ ! -e /usr/local/bin/k3s ] || ln /usr/local/bin/k3s "$binary" 2>/dev/null || cp -p /usr/local/bin/k3s "$binary"

(
  to=/usr/local/lib/istio-vms/k3s/k3s mode=0755 link=
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
loaded=/run/istio-vms-k3s.images
# is_loaded FILE: whether k3s has the archive as it is in its folder.
is_loaded() { grep -qxF "$(stat -L -c "${1##*/} %i %.9Y %s" "$1")" "$loaded" 2>/dev/null; }
note_loaded() { is_loaded "$1" || stat -L -c "${1##*/} %i %.9Y %s" "$1" >>"$loaded"; }

# note_earlier: k3s has loaded what was there when it started; an earlier version of this script noted nothing of that.
note_earlier() {
  local file stamp since
  [ ! -e "$loaded" ] && ls /var/lib/rancher/k3s/agent/images/istio-vms-* >/dev/null 2>&1 || return 0
  stamp=$(systemctl show -p ExecMainStartTimestamp --value k3s 2>/dev/null || true)
  [ "$stamp" ] || return 0
  since=$(date -d "$stamp" +%s)
  for file in /var/lib/rancher/k3s/agent/images/istio-vms-*; do
    [ -e "$file" ] || continue
    [ "$(stat -c %Z "$file")" -ge "$since" ] || [ "$(stat -L -c %Z "$file")" -ge "$since" ] || note_loaded "$file"
  done
}

# see_archive FILE NAME: k3s would pass over what it cannot read, and pods would wait for their images for ever.
see_archive() {
  local members=
  ! is_loaded "$1" || return 0
  case "$1" in
    *.tar.gz) members=$(gzip -dc "$1" 2>/dev/null | tar -tf - 2>/dev/null || true) ;;
    *.tar.zst) [ "$(od -An -tx1 -N4 "$1" | tr -d ' ')" != 28b52ffd ] || return 0 ;;
    *) members=$(tar -tf - <"$1" 2>/dev/null || true) ;;
  esac
  ! grep -qxE '(\./)?(index|manifest)\.json' <<<"$members" || return 0
  say "$2 of cluster.images is no archive of images, or not compressed as its name says; k3s was left as it runs"
  rm -f "$1"
  exit 1
}

# keep_archives NAME…: the others are of former settings.
keep_archives() {
  local file
  for file in /var/lib/rancher/k3s/agent/images/istio-vms-*; do
    case " $* " in *" ${file##*/} "*) ;; *) rm -f "$file" ;; esac
  done
}

containerd_images() { /usr/local/lib/istio-vms/k3s/bin/ctr -a /run/k3s/containerd/containerd.sock -n k8s.io images "$@"; }
listed_images() { containerd_images ls | awk 'NR > 1 { print $1, $3 }' | sort; }

# load_archives: k3s loads them as it starts. One that runs is given what is new, marked as it marks its own: not to be cleared away.
load_archives() {
  local file name before
  [ ! "${started:-}" ] || : >"$loaded"
  mkdir -p /usr/local/lib/istio-vms/k3s/bin
  ln -sfn /usr/local/bin/k3s /usr/local/lib/istio-vms/k3s/bin/ctr
  for file in /var/lib/rancher/k3s/agent/images/istio-vms-*; do
    [ -e "$file" ] || continue
    if [ ! "${started:-}" ] && ! is_loaded "$file"; then
      name="${file##*/}$([ ! -L "$file" ] || echo " ($(basename "$(readlink "$file")"))")"
      say "loading images of $name"
      before=$(listed_images)
      containerd_images import --local=false "$file" >/dev/null || { say "$name: containerd cannot load it"; exit 1; }
      comm -13 <(echo "$before") <(listed_images) | while read -r image _; do
        containerd_images label "$image" io.cattle.k3s.pinned=pinned io.cri-containerd.pinned=pinned >/dev/null
      done
    fi
    note_loaded "$file"
  done
}

note_earlier
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

see_archive /var/lib/rancher/k3s/agent/images/istio-vms-00.tar a.tar
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

see_archive /var/lib/rancher/k3s/agent/images/istio-vms-01.tar b.tar
keep_archives istio-vms-00.tar istio-vms-01.tar
if ! cmp -s "$binary" /usr/local/bin/k3s; then
  cp -lf "$binary" /usr/local/bin/.k3s.new 2>/dev/null || cp -p "$binary" /usr/local/bin/.k3s.new
  mv -fT /usr/local/bin/.k3s.new /usr/local/bin/k3s
fi

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
  started=yes
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

# A server passes over a key that this k3s does not have, and would run without what it asks for.
unknown=$(journalctl _SYSTEMD_INVOCATION_ID="$(systemctl show -p InvocationID --value k3s)" -o cat --no-pager 2>/dev/null |
  grep -oE 'Unknown flag [^ ]+' | sort -u | tr '\n' ';' || true)
[ -z "$unknown" ] || give_up "a key of cluster.config is of another k3s than cluster.version: $unknown"

load_archives