# Sourced by .ci/run and full-check, after lib.sh: steps that are counted, and go on whatever one of them finds.
# shellcheck shell=bash

passed=0 failed=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# step NAME COMMAND...: shows the output; what a runner counted counts, else the step is one test.
step() {
  local name=$1 log=$logs/step status=0 began=$SECONDS p f
  shift
  printf '\n=== %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  p=$(count passed) f=$(count failed)
  if ((p + f == 0)); then p=$((status == 0)) f=$((status != 0)); fi
  # A runner that ended badly without a failed test (it did not build, or died) is a failure all the same.
  if ((status != 0 && f == 0)); then f=1; fi
  passed=$((passed + p)) failed=$((failed + f))
  printf '=== %s: %d passed, %d failed (%d s)\n' "$name" "$p" "$f" $((SECONDS - began))
}

# count passed|failed: from cargo's "test result:" lines, or from a line "N passed, N failed". A test that runs the test
# program once more, for one test alone, is not counted twice: that one has filtered the others out.
count() {
  grep -E '^test result: .* 0 filtered out|^[0-9]+ passed, [0-9]+ failed$' "$logs/step" |
    grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'
}

# The closing line; false when something failed.
closing_line() {
  echo
  echo "$passed passed, $failed failed"
  [[ $failed -eq 0 ]]
}
