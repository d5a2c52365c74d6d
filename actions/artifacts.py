"""How a machine gets a file it needs: fetched or found, verified, put in place. Pure: plain data in, shell text out.

The shell text runs as root on any Linux with coreutils and awk, under bash or a POSIX sh, whatever options the script around it has
set. It may be run again at any time: a file that is already right is left alone, and one that is not is replaced in one step.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

CHECKSUMS_FILE = "SHA256SUMS"
MOUNT_WAIT_SECONDS = 180
"""How long a file below a mount may take to appear: Multipass mounts folders only once the machine runs."""


@dataclass(frozen=True)
class MachineArtifact:
    """One file, as a machine sees it.

    Either `url` with `sha256`, or with `checksums`, the URL of the publisher's own checksum file; or `path`, a file on the machine,
    verified by the `SHA256SUMS` beside it. `arm64` takes the place of the rest on machines of that architecture.
    """

    url: str | None = None
    sha256: str | None = None
    checksums: str | None = None
    path: str | None = None
    arm64: MachineArtifact | None = None

    def __post_init__(self) -> None:
        """See that the file can be found and verified.

        Raises:
            ValueError: it cannot.
        """
        if (self.url is None) == (self.path is None):
            raise ValueError("an artifact has either a url or a path")
        if self.path and (self.sha256 or self.checksums):
            raise ValueError(f"{self.path}: a file on the machine is verified by the {CHECKSUMS_FILE} beside it")
        if self.path and not self.path.startswith("/"):
            raise ValueError(f"{self.path}: not an absolute path")
        if self.url and (self.sha256 is None) == (self.checksums is None):
            raise ValueError(f"{self.url}: needs either sha256 or checksums, so that what is fetched is verified")
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.sha256}: not a SHA-256 digest in hexadecimal")
        for url in (self.url, self.checksums):
            if url and not url.startswith("https://"):
                raise ValueError(f"{url}: not an https:// URL")

    @property
    def name(self) -> str:
        """The file's own name, as checksum files list it."""
        return file_name(self.url or self.path or "")


def file_name(place: str) -> str:
    """The name of the file at a URL or a path."""
    return place.partition("?")[0].rpartition("/")[2]


def fetch_script(artifact: MachineArtifact, destination: str, *, mode: str = "0644", link: bool = False) -> str:
    """Shell that ends with the verified file at `destination`, or exits 1 with a line on stderr that says why.

    Args:
        artifact: what to fetch or find.
        destination: an absolute path; its folder is made.
        mode: the file's permissions, in octal.
        link: have a symbolic link to a `path` instead of a copy; for large files.
    """
    choice = _assign(artifact)
    if artifact.arm64:
        choice = f'case "$(uname -m)" in\n  aarch64 | arm64) {_assign(artifact.arm64)} ;;\n  *) {choice} ;;\n  esac'
    return f"""\
(
  to={shlex.quote(destination)} mode={shlex.quote(mode)} link={"yes" if link else ""}
  {choice}
{_FETCH}) </dev/null || exit 1
"""


def install_deb_script(artifact: MachineArtifact, package: str, *, existing: bool = False) -> str:
    """Shell that ends with a Debian package installed, exactly the one of `artifact`, with what it depends on.

    Args:
        artifact: the .deb file.
        package: its name as dpkg knows it.
        existing: whether the machine is a host that someone else made. There a `path` is no mount's and is there or never; and the
            packages that come along are listed in `/var/lib/istio-vms/<package>.deb.brings` before they do, so that they can go again.
    """
    deb = f"/var/lib/istio-vms/{package}.deb"
    named = f"package={shlex.quote(package)} deb={shlex.quote(deb)}"
    before, listing = (
        (_there_script(artifact), f"(\n  {named}\n{_LIST}) </dev/null || exit 1\n") if existing else ("", "")
    )
    return f"""\
{before}{fetch_script(artifact, deb)}{listing}(
  {named}
{_INSTALL_DEB}) </dev/null || exit 1
"""


def _there_script(artifact: MachineArtifact) -> str:
    paths = [shlex.quote(one.path or "") for one in (artifact, artifact.arm64 or artifact)]
    return f"""\
(
  case "$(uname -m)" in aarch64 | arm64) path={paths[1]} ;; *) path={paths[0]} ;; esac
  if [ -z "$path" ] || [ -r "$path" ]; then exit 0; fi
  echo "$(uname -n): $path is not there: the host's owner puts it there, with a {CHECKSUMS_FILE} beside it" >&2
  exit 1
) </dev/null || exit 1
"""


def _assign(artifact: MachineArtifact) -> str:
    values = {
        "name": artifact.name,
        "url": artifact.url or "",
        "sha256": artifact.sha256 or "",
        "checksums": artifact.checksums or "",
        "path": artifact.path or "",
    }
    return " ".join(f"{key}={shlex.quote(value)}" for key, value in values.items())


# A checksum file has lines `<digest>  <name>`, the name perhaps with a `*` (binary mode) or folders in front; some publishers have a
# file per artifact, with one line.
_FETCH = f"""\
  fail() {{ echo "$(uname -n): $name: $*" >&2; exit 1; }}
  digest() {{ sha256sum <"$1" | cut -c1-64; }}
  listed() {{
    name=$name awk '
      {{ file = substr($0, 67); sub(/^.*\\//, "", file); sub(/^[*]/, "", file); only = $1 }}
      file == ENVIRON["name"] {{ print $1; found = 1; exit }}
      END {{ if (!found && NR == 1) print only }}' | grep -E '^[0-9a-f]{{64}}$'
  }}
  download() {{
    curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' \\
      --connect-timeout 15 --retry 5 --retry-delay 2 --output "$2" "$1" || fail "cannot be downloaded from $1"
  }}
  tries=0
  while [ -n "$path" ] && [ ! -r "$path" ]; do
    [ "$tries" -lt {MOUNT_WAIT_SECONDS} ] || fail "$path is not there after {MOUNT_WAIT_SECONDS} s; is its folder mounted?"
    tries=$((tries + 1)); sleep 1
  done
  mkdir -p "$(dirname "$to")" || fail "no folder for $to"
  # A run that was killed at the other end may still be at it here; the folder itself is the lock.
  exec 8<"$(dirname "$to")" && flock -w 600 8 || fail "another run still works on $to after 600 s"
  trap 'rm -f "$to.part" "$to.sums"' EXIT
  if [ -n "$path" ]; then
    sums=$(dirname "$path")/{CHECKSUMS_FILE}
    [ -r "$sums" ] || fail "no {CHECKSUMS_FILE} beside $path: run sha256sum in that folder and keep its output there"
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
  [ "$got" = "$want" ] || fail "the SHA-256 digest of ${{path:-$url}} is $got and should be $want; it is damaged or was replaced"
  chmod "$mode" "$to.part" && mv -fT "$to.part" "$to" || fail "cannot be put at $to"
"""

# A package that apt only installs again, or upgrades, has its present version in brackets.
_LIST = """\
  plan() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -s --no-install-recommends --allow-downgrades install "$deb" >"$deb.plan"
  }
  [ "$(cat "$deb.installed" 2>/dev/null)" != "$(sha256sum <"$deb" | cut -c1-64)" ] || exit 0
  plan || { apt-get -qq update && plan; } || { echo "$(uname -n): $package: apt-get cannot install $deb" >&2; exit 1; }
  awk '$1 == "Inst" && $3 !~ /^\\[/ { print $2 }' "$deb.plan" >>"$deb.brings" && rm "$deb.plan"
"""

# The package lists are fetched only if the dependencies cannot be had without. The stamp is written last: an installation that was cut
# short is done again.
_INSTALL_DEB = """\
  fail() { echo "$(uname -n): $package: $*" >&2; exit 1; }
  apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 "$@"; }
  install_deb() {
    apt -o Dpkg::Options::=--force-confold install --reinstall --allow-downgrades --no-install-recommends "$deb"
  }
  digest=$(sha256sum <"$deb" | cut -c1-64) || fail "cannot read $deb"
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)
  if [ "$status" = installed ] && [ "$(cat "$deb.installed" 2>/dev/null)" = "$digest" ]; then exit 0; fi
  install_deb || { apt update && install_deb; } || fail "apt-get cannot install $deb"
  echo "$digest" >"$deb.installed" || fail "cannot write $deb.installed"
"""
