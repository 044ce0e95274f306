# Sourced by the scripts beside it: what they need, the namespaces they work in, waiting.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=$(basename "$0")
source "$top/scripts/need.sh"

die() {
  echo "$me: $*" >&2
  exit 1
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
  for name in client node pods; do kernel "$name" net/ipv6/conf/default/accept_dad=0 net/ipv6/conf/all/accept_dad=0; done
  join client to-node 10.77.1.2/24 fd77:1::2/64 node to-client 10.77.1.1/24 fd77:1::1/64
  join pods to-node 10.77.2.11/24 fd77:2::11/64 node to-pods 10.77.2.1/24 fd77:2::1/64
  kernel node net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1
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

# kernel NAME SETTING=VALUE...: as sysctl sets them.
kernel() {
  local name=$1 setting
  shift
  for setting in "$@"; do in_ns "$name" sh -c "echo ${setting#*=} >/proc/sys/${setting%%=*}"; done
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

# build EXAMPLE...: $portico is the program, $examples the folder of the examples: those that PORTICO and EXAMPLES name, or else
# built as `cargo test` builds them, so that nothing is compiled a second time for it.
build() {
  portico=${PORTICO:-} examples=${EXAMPLES:-}
  if [[ $portico && $examples ]]; then return; fi
  local example args=() target
  for example in "$@"; do args+=(--example "$example"); done
  # The owner's target folder, not root's.
  (cd "$top" && owner cargo build --bin portico "${args[@]}" >&2) || die "it does not build"
  target=$(cd "$top" && owner cargo metadata --no-deps --offline --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  portico=${portico:-$target/debug/portico} examples=${examples:-$target/debug/examples}
}
