# Sourced by lib.sh: what a script needs on this machine, and how it comes there.
# shellcheck shell=bash

# Whether what is missing is installed, where that can be. A script's --no-install makes it empty.
install=yes

# need WHY [root] COMMAND:PACKAGE...: every command, by its Debian package; `cargo` is one that is new enough for us. What is
# missing is installed, as root on Debian and its children, after one line that says what and why; elsewhere it is named,
# all at once.
need() {
  local why=$1 wanted missing=() packages=() rust='' root='' by line
  shift
  for wanted in "$@"; do
    if [[ $wanted == root ]]; then
      if ((EUID != 0)); then root="root's rights"; fi
    else
      has "${wanted%%:*}" || missing+=("${wanted#*:}")
    fi
  done
  if [[ ${#missing[@]} -eq 0 && ! $root ]]; then return; fi
  by=$(manager)
  if ((EUID != 0)) || [[ $by != apt-get* ]]; then install=; fi
  # What a new machine knows of packages may be nothing at all.
  if [[ $install ]]; then apt-get update -qq >&2 || die "apt-get update fails"; fi
  for wanted in "${missing[@]}"; do
    if [[ $wanted != cargo ]]; then
      packages+=("$(package_here "$wanted")")
    elif wanted=$(rust_package); then
      packages+=("$wanted")
    else
      rust="Rust $(rust_version) or newer (https://rustup.rs)"
    fi
  done
  line=${packages[*]:+$by ${packages[*]}}
  if [[ ! $install || $rust ]]; then die "missing, $why: $(joined "$root" "$line" "$rust")"; fi
  echo "$me: missing, $why: $line" >&2
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $line -y -qq --no-install-recommends >&2 </dev/null || die "that failed"
}

# joined TEXT...: those that are not empty.
joined() {
  local text all=
  for text in "$@"; do all+=${text:+${all:+; }$text}; done
  echo "$all"
}

# has COMMAND
has() {
  local found
  if [[ $1 != cargo ]]; then
    command -v "$1" >/dev/null
    return
  fi
  found=$(owner cargo --version 2>/dev/null | cut -d ' ' -f 2) || return
  [[ $(printf '%s\n' "$(rust_version)" "$found" | sort -V | head -n 1) == "$(rust_version)" ]]
}

# The Rust that Cargo.toml asks for.
rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml"; }

# How packages are installed here.
manager() {
  local program
  for program in apt-get dnf zypper pacman apk; do
    if command -v "$program" >/dev/null; then
      case $program in
        pacman) echo "pacman -S" ;;
        apk) echo "apk add" ;;
        *) echo "$program install" ;;
      esac
      return
    fi
  done
  echo "the packages (by Debian's names)"
}

# package_here PACKAGE: how this system calls what Debian calls so.
package_here() {
  local by
  by=$(manager)
  case ${by%% *}:$1 in
    dnf:iproute2) echo iproute ;;
    dnf:bind9-dnsutils | zypper:bind9-dnsutils) echo bind-utils ;;
    pacman:bind9-dnsutils) echo bind ;;
    apk:bind9-dnsutils) echo bind-tools ;;
    apk:gcc) echo "gcc musl-dev" ;;
    *) echo "$1" ;;
  esac
}

# The package of a Rust that is new enough; false where apt knows of none. Debian 12 has cargo-web, for its browsers.
rust_package() {
  local package version
  case $(manager) in
    apt-get*) ;;
    pacman*) echo rust && return ;;
    *) echo cargo && return ;;
  esac
  for package in cargo cargo-web; do
    version=$(apt-cache policy "${package/cargo/rustc}" | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p')
    if [[ $version ]] && dpkg --compare-versions "$version" ge "$(rust_version)"; then echo "$package" && return; fi
  done
  return 1
}

# owner COMMAND...: as the user who called sudo, whose cargo and files are meant; without sudo as it is.
owner() {
  local home
  if [[ $EUID -ne 0 || ${SUDO_USER:-root} == root ]]; then
    "$@"
    return
  fi
  home=$(getent passwd "$SUDO_USER" | cut -d : -f 6)
  sudo -H -u "$SUDO_USER" env "PATH=$home/.cargo/bin:$PATH" "$@"
}
