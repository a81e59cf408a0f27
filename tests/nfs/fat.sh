# The cases on FAT and exFAT, which keep no owners and count the moments of changes in steps of two seconds: $A is a
# directory on them. All that is in it belongs to one user and may be entered by all.
. /job/lib.sh
A=/mnt/fat

empty() {
  umount "$A" 2>/dev/null
  rm -f /fat
  truncate -s 48M /fat
  mkfs."$system" $options /fat >/dev/null 2>&1
  mount -t "$module" -o "loop,uid=1000,gid=1000,umask=022" /fat "$A"
  mkdir -p "$A/cache/export" "$A/tmp"
}

# tree NAME FILES: an old tree in tmp.
tree() {
  tree_in "$A/tmp" "$@"
}

fat_plain() {
  entries "$A/cache/export" 20 $((2 * DAY)) "$E"
  tree one 3
  tree two 3
  touch "$A/tmp/two/sub/g2"
  sweep
  equal "what has expired goes, and nothing else" "removed 21 skipped 1 failed 0, 0 exports, two" \
    "$(totals), $(count "$A/cache/export") exports, $(ls -A "$A/tmp")"
}

fat_killed() {
  tree one 3
  # Before the second rename, by which the removal of the tree begins.
  strace -f -o /dev/null -e trace=renameat2 -e inject=renameat2:signal=KILL:when=2 \
    timeout 120 sweeper run --data "$A" --zones tmp --jobs 1 >/dev/null 2>&1
  equal "a pass that is killed leaves a tree in its private directory" one "$(ls "$A"/tmp/.sweeper-*/check)"
  sweep --zones tmp --dry-run
  equal "a dry run says that the tree goes" "removed 1 skipped 0 failed 0" "$(totals)"
  sweep --zones tmp
  equal "and the next pass removes it" "0 removed 1 skipped 0 failed 0, nothing left" \
    "$code $(totals), $(ls -A "$A/tmp" | grep . || echo nothing left)"
}

fat_half() {
  tree one 30
  # A directory that was made in the two seconds in which a removal begins counts as one that came during it.
  sleep 2
  strace -f -o /dev/null -e trace=unlinkat -e inject=unlinkat:signal=KILL:when=20 \
    timeout 120 sweeper run --data "$A" --zones tmp --jobs 1 >/dev/null 2>&1
  left=$(find "$A"/tmp/.sweeper-*/remove/one -type f | wc -l)
  equal "a pass is killed in the middle of a tree ($left of 60 files are left)" yes \
    "$([ "$left" -gt 0 ] && [ "$left" -lt 60 ] && echo yes || echo "$left")"
  sweep --zones tmp
  equal "the next pass removes the rest of it" "0 removed 1 skipped 0 failed 0, nothing left" \
    "$code $(totals), $(ls -A "$A/tmp" | grep . || echo nothing left)"
}

mkdir -p "$A"
for module in nls_cp437 nls_ascii nls_iso8859-1 vfat exfat; do
  modprobe "$module" 2>/dev/null
done
for module in vfat exfat; do
  case $module in
    vfat) title=FAT system=fat options="-F 32" ;;
    exfat) title=exFAT system=exfat options="" ;;
  esac
  run_cases fat_plain fat_killed fat_half
done
umount "$A"
exit $failed
