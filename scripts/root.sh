# Sourced, after lib.sh, by scripts that work in a new Debian of their own: nothing is installed in it but git.
# shellcheck shell=bash

# root_make SUITE: $root is a root of that release with what is committed here in /root/portico. $work goes at the end.
root_make() {
  need "to make a root of its own" root debootstrap:debootstrap git:git unshare:util-linux
  suite=$1
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/portico-roots
  mkdir -p "$cache/archives-$suite/partial" "$cache/cargo-$suite"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  root=$work/root
  local base=$cache/$suite.tar
  if [[ -e $base ]]; then
    mkdir "$root"
    tar -C "$root" -xf "$base"
  else
    echo "making a root of $suite" >&2
    debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$root" >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2 && die "debootstrap failed"; }
    rm -f "$root"/var/cache/apt/archives/*.deb
    tar -C "$root" -cf "$base.new" .
    mv "$base.new" "$base"
  fi
  mkdir -p "$root/var/cache/cargo" "$root/root/portico" "$work/cargo"
  root_reaches_registries
  # What a clone would have.
  git -C "$top" -c safe.directory='*' archive HEAD | tar -C "$root/root/portico" -x
  root_cargo /root
}

# How this machine reaches the registries: names, the authorities that it trusts, cargo's own configuration.
root_reaches_registries() {
  local file name
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
  for file in config.toml config; do
    if [[ -e ${CARGO_HOME:-$HOME/.cargo}/$file ]]; then cp "${CARGO_HOME:-$HOME/.cargo}/$file" "$work/cargo/"; fi
  done
  proxies=()
  for name in http_proxy https_proxy no_proxy; do if [[ ${!name:-} ]]; then proxies+=("$name=${!name}"); fi; done
}

# root_cargo HOME: what cargo downloads is kept, and shared.
root_cargo() {
  mkdir -p "$root$1/.cargo"
  cp -a "$work/cargo/." "$root$1/.cargo/"
  ln -sfn /var/cache/cargo "$root$1/.cargo/registry"
}

# root_user NAME: an ordinary user, who has the same.
root_user() {
  root_inside root "useradd -m $1"
  cp -a "$root/root/portico" "$root/home/$1/"
  root_cargo "/home/$1"
  root_inside root "chown -R $1 /home/$1; chmod -R a+rwX /var/cache/cargo"
}

# root_inside USER COMMAND: in the root, with nothing of this machine's environment, from the folder of the source.
root_inside() {
  local user=$1 home=/root
  if [[ $user != root ]]; then home=/home/$user; fi
  # A process namespace of its own: what runs on in it is ended with it.
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child --propagation private bash -c '
    root=$1 cache=$2 suite=$3 && shift 3
    # ip netns exec wants a root that is a mount of its own.
    mount --bind "$root" "$root" && cd "$root" &&
      mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" &&
      mount -t tmpfs run "$root/run" && mount --bind "$cache/archives-$suite" "$root/var/cache/apt/archives" &&
      mount --bind "$cache/cargo-$suite" "$root/var/cache/cargo" && exec chroot "$@"' \
    root_inside "$root" "$cache" "$suite" --userspec="$user" "$root" \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "HOME=$home" "USER=$user" TERM=dumb CARGO_TERM_COLOR=never \
    DEBIAN_FRONTEND=noninteractive "${proxies[@]}" bash -c "cd; cd portico 2>/dev/null; $2" </dev/null
}
