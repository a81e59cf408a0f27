# The cases on a server whose clock is not that of this machine: the directory of the machine outside, by 9p. Its
# clock is right; here another one is set, so this part is the last.
. /job/lib.sh
title="clock of a server"
H=/mnt/host
A=$H/root
modprobe 9pnet_virtio
modprobe 9p
mkdir -p "$H"
mount -t 9p host "$H" -o trans=virtio,version=9p2000.L,cache=none || exit 1
right=0

empty() {
  date -s "@$(($(date +%s) - right))" >/dev/null
  right=0
  rm -rf "$A"
  mkdir -p "$A/cache/export" "$A/tmp"
}

# ahead SECONDS: this machine's clock from now on; the server's is then behind by as much.
ahead() {
  date -s "@$(($(date +%s) + $1))" >/dev/null
  right=$1
}

# made_now NUMBER NAME: exports that the server makes now, by its own clock.
made_now() {
  for number in $(seq "$1"); do : >"$A/cache/export/task-$number-dataset-instance1736428000.5-coco-10.zip"; done
}

agree() {
  entries "$A/cache/export" 3 $((2 * DAY)) "$E"
  sweep --zones export
  equal "clocks that agree are not mentioned" "removed 3 skipped 0 failed 0, no" "$(totals), $(says 'clock of the file server')"
}

too_far() {
  made_now 3
  ahead $((2 * DAY))
  sweep --zones export --dry-run
  equal "a dry run says that it does not compare the clocks" "removed 3 skipped 0 failed 0 yes" \
    "$(totals) $(says 'the clocks are not compared')"
  sweep --zones export
  equal "files that the server has just made stay when the clocks are two days apart, exit code 4" \
    "3 4 yes" "$(count "$A/cache/export") $code $(says "s behind this machine's: correct the wrong one")"
}

noted() {
  entries "$A/cache/export" 1 $((2 * DAY)) "$E"
  ahead -600
  sweep --zones export
  equal "a clock that is ten minutes ahead is noted" "removed 1 skipped 0 failed 0 yes" \
    "$(totals) $(says "s ahead of this machine's")"
}

# What is 61 minutes old by this machine's clock is 21 minutes old by that of the server.
min_age() {
  made_now 3
  ahead $((40 * 60))
  for file in "$A"/cache/export/*; do touch -d "@$(($(date +%s) - 61 * 60))" "$file"; done
  entries "$A/cache/export" 1 $((3 * 3600)) "project-%d-dataset-instance1736428000.5-coco-10.zip"
  sweep --zones export --pressure 0.1% --dry-run
  dry=$(totals)
  sweep --zones export --pressure 0.1%
  equal "under pressure the age by the clock of a server that is behind counts" \
    "removed 4 skipped 0 failed 0, 3 left of 4" "$dry, $(count "$A/cache/export") left of 4"
  equal "and the difference is noted" yes "$(says "s behind this machine's")"
}

run_cases agree too_far noted min_age
empty
umount "$H"
exit $failed
