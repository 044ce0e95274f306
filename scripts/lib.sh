# Sourced by the scripts beside it: what they need, the namespaces they work in, waiting.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=$(basename "$0")

die() {
  echo "$me: $*" >&2
  exit 1
}

# need COMMAND:PACKAGE...: every command, or the packages to install; with CI=true they are installed.
need() {
  local pair missing=()
  for pair in "$@"; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}"); done
  if [[ ${#missing[@]} -eq 0 ]]; then return; fi
  if [[ ${CI:-} == true ]]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq "${missing[@]}" >&2
    return
  fi
  die "something is missing; on Debian: apt-get install ${missing[*]}"
}

need_root() {
  [[ $EUID -eq 0 ]] || die "needs root, to make network namespaces; nothing outside them is changed"
}

# Three machines: client -- node -- pods. Everything else (pids, files) lives in $work.
#   client 10.77.1.2 fd77:1::2   node 10.77.1.1 10.77.2.1 (+ v6)   pods 10.77.2.11 to .14, fd77:2::11 to ::14
prefix=
work=
pids=()

machines_up() {
  prefix=$1-$$
  work=$(mktemp -d)
  trap machines_down EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  local name
  for name in client node pods; do
    ip netns add "$prefix-$name"
    in_ns "$name" ip link set lo up
  done
  # No duplicate address detection: IPv6 works at once.
  for name in client node pods; do in_ns "$name" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; done
  join client to-node 10.77.1.2/24 fd77:1::2/64 node to-client 10.77.1.1/24 fd77:1::1/64
  join pods to-node 10.77.2.11/24 fd77:2::11/64 node to-pods 10.77.2.1/24 fd77:2::1/64
  in_ns node sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  local n
  for n in 12 13 14; do
    in_ns pods ip address add "10.77.2.$n/24" dev to-node
    in_ns pods ip address add "fd77:2::$n/64" dev to-node nodad
  done
  in_ns client ip route add default via 10.77.1.1
  in_ns client ip route add default via fd77:1::1
  in_ns pods ip route add default via 10.77.2.1
  in_ns pods ip route add default via fd77:2::1
}

# join NS LINK V4 V6 NS LINK V4 V6
join() {
  ip link add "$2" netns "$prefix-$1" type veth peer name "$6" netns "$prefix-$5"
  in_ns "$1" ip link set "$2" up
  in_ns "$5" ip link set "$6" up
  in_ns "$1" ip address add "$3" dev "$2"
  in_ns "$1" ip address add "$4" dev "$2" nodad
  in_ns "$5" ip address add "$7" dev "$6"
  in_ns "$5" ip address add "$8" dev "$6" nodad
}

in_ns() {
  local name=$1
  shift
  ip netns exec "$prefix-$name" "$@"
}

# spawn NAME LOG COMMAND...: in the background; its pid is in $!.
spawn() {
  local name=$1 log=$2
  shift 2
  ip netns exec "$prefix-$name" "$@" >>"$log" 2>&1 </dev/null &
  pids+=($!)
}

# Ends a process that spawn started, and waits for it.
stop() {
  local pid left=()
  kill "-${2:-TERM}" "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
  for pid in "${pids[@]}"; do if [[ $pid != "$1" ]]; then left+=("$pid"); fi; done
  pids=("${left[@]}")
}

machines_down() {
  local status=$? pid name
  trap - EXIT INT TERM
  if declare -F before_down >/dev/null; then before_down || true; fi
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  for name in client node pods; do ip netns delete "$prefix-$name" 2>/dev/null || true; done
  rm -rf "$work"
  exit "$status"
}

# eventually SECONDS COMMAND...: until it succeeds; false when it does not within that time.
eventually() {
  local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
  shift
  until "$@"; do
    ((${EPOCHREALTIME/./} < deadline)) || return 1
    sleep 0.02
  done
}

# Microseconds since the epoch.
now() { echo "${EPOCHREALTIME/./}"; }

# since MICROSECONDS: milliseconds passed, with one decimal.
since() {
  local us=$((${EPOCHREALTIME/./} - $1))
  printf '%d.%d ms' $((us / 1000)) $((us % 1000 / 100))
}

# build EXAMPLE...: the release program, and examples (quickly built, not optimised); $portico is the program, $examples the folder of the others.
build() {
  local example args=()
  for example in "$@"; do args+=(--example "$example"); done
  if [[ ${PORTICO:-} && ${EXAMPLES:-} ]]; then
    portico=$PORTICO examples=$EXAMPLES
    return
  fi
  command -v cargo >/dev/null || die "cargo is missing; on Debian 13: apt-get install cargo gcc, before that: rustup (https://rustup.rs)"
  (cd "$top" && cargo build --release --bin portico >&2 && cargo build "${args[@]}" >&2)
  local target
  target=$(cd "$top" && cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  portico=${PORTICO:-$target/release/portico}
  examples=$target/debug/examples
}
