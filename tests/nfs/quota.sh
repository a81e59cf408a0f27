# The cases on directories with quotas of their own: XFS and ext4, with a quota for a project on a directory. $A is
# the data root.
. /job/lib.sh
D=/srv/quota
A=$D/data
MIB=1048576
modprobe xfs
modprobe quota_v2

empty() {
  cd /
  umount "$D" 2>/dev/null
  rm -f /tmp/quota-image
  truncate -s 320M /tmp/quota-image
  case $kind in
    XFS) mkfs.xfs -q /tmp/quota-image ;;
    ext4) mkfs.ext4 -q -O quota,project -E lazy_itable_init=1 /tmp/quota-image ;;
  esac
  mkdir -p "$D"
  mount -o loop,prjquota /tmp/quota-image "$D"
  mkdir -p "$A/cache/export" "$A/tmp"
}

# limit DIRECTORY LIMIT [PROJECT]: a quota for this directory and all that is in it or is made there from now on, such
# as bhard=20m.
limit() {
  xfs_quota -f -x -c "project -s -p $1 ${3:-42}" -c "limit -p $2 ${3:-42}" "$D" >/tmp/limit 2>&1 || cat /tmp/limit
}

# exports NUMBER BYTES: exports, the first of which was written first.
exports() {
  for number in $(seq "$1"); do
    file=$A/cache/export/task-$number-dataset-instance1736428000.5-coco-10.zip
    head -c "$2" /dev/zero >"$file"
    touch -d "@$(($(date +%s) - 20000 + number))" "$file"
  done
  sync
}

# names: the numbers of the exports that are there.
names() {
  ls "$A/cache/export" | sed 's/task-\([0-9]*\)-.*/\1/' | sort -n | tr '\n' ' '
}

# relief FIELD: what the last report says, for each directory that was to be relieved.
relief() {
  tail -n 1 /tmp/report | grep -o "\"$1\":\"[^\"]*\"" | cut -d'"' -f4 | tr '\n' ' '
}

zone_bytes() {
  limit "$A/cache/export" bhard=20m
  exports 18 $MIB
  sweep --pressure 85% --relieve 61% --dry-run
  equal "a dry run says what would go by the quota of a zone" "not_needed relieved  18" "$(relief state) $(count "$A/cache/export")"
  sweep --pressure 85% --relieve 61%
  equal "the oldest go until the quota of a zone is relieved, on a disk that is nearly empty" \
    "not_needed relieved  7 8 9 10 11 12 13 14 15 16 17 18 " "$(relief state) $(names)"
  equal "and the report says that it is a quota" "yes yes" "$(says '90.0% (inodes') $(says 'of its quota in use before, and 60.0%')"
  sweeper usage --data "$A" --format json >/tmp/report
  equal "usage shows the quota" yes "$(says 'cache/export\" has a quota of its own, of which 12.0 MiB of 20.0 MiB')"
}

zone_inodes() {
  limit "$A/cache/export" ihard=20
  exports 18 10
  sweep --pressure 85% --relieve 60%
  # The directory itself is one.
  equal "inodes that a quota limits are relieved, too" "not_needed relieved  8 9 10 11 12 13 14 15 16 17 18 " \
    "$(relief state) $(names)"
}

keep_free() {
  limit "$A/cache/export" bhard=20m
  exports 10 $MIB
  sweep --keep-free 11MiB
  equal "so much of a quota is kept free" "not_needed relieved  3 4 5 6 7 8 9 10 " "$(relief state) $(names)"
  sweep --keep-free 30MiB
  equal "more than a quota has is never kept free" "not_needed too_much  8 yes" \
    "$(relief state) $(count "$A/cache/export") $(says 'this quota has 20.0 MiB in total')"
}

data_root() {
  limit "$A" bhard=40m
  head -c $((20 * MIB)) /dev/zero >"$A/media"
  exports 16 $MIB
  sweeper usage --data "$A" --format json >/tmp/report
  equal "usage shows the quota of a data root as its size" 1 \
    "$(grep -c '"volume":{"bytes":41943040,"bytes_used":377[0-9]*,' /tmp/report)"
  sweep --pressure 85% --relieve 71%
  equal "a data root with a quota is relieved by it" "relieved  9 10 11 12 13 14 15 16 " "$(relief state) $(names)"
}

# A zone in another place on the same disk, which does not count in the quota of the data root.
elsewhere() {
  mkdir "$D/scratch"
  limit "$A" bhard=20m
  head -c $((18 * MIB)) /dev/zero >"$A/media"
  entries "$D/scratch" 9 $((2 * DAY)) young-%d
  printf '[zones.tmp]\npath = "%s/scratch"\n' "$D" >/tmp/elsewhere.toml
  sweep --config /tmp/elsewhere.toml --pressure 85% --relieve 60% --pressure-zones tmp
  equal "nothing goes in vain that does not count in a quota" "nothing_left not_needed  9" "$(relief state) $(count "$D/scratch")"
}

# A file counts in the quota of one project: that of a zone, and not that of the data root, too.
two_quotas() {
  limit "$A" bhard=40m
  limit "$A/cache/export" bhard=30m 43
  head -c $((36 * MIB)) /dev/zero >"$A/media"
  exports 5 $MIB
  sweep --pressure 85% --relieve 61% --dry-run
  equal "a dry run takes nothing from a zone with a quota for that of the data root" "nothing_left not_needed  removed 0 skipped 0 failed 0" \
    "$(relief state) $(totals)"
  sweep --pressure 85% --relieve 61%
  equal "nothing goes from a zone with a quota for that of the data root" "nothing_left not_needed  5" "$(relief state) $(count "$A/cache/export")"
  exports 27 $MIB
  sweep --pressure 85% --relieve 61%
  equal "and its own quota is relieved" "nothing_left relieved  18" "$(relief state) $(count "$A/cache/export")"
}

# On ext4 root writes beyond a quota, and all of it is in use. Nothing of it is reserved.
zone_full() {
  limit "$A/cache/export" bhard=20m
  exports 20 $MIB
  sweep --pressure 85% --relieve 61% --dry-run
  equal "a dry run takes a full quota for no reserve of root" "not_needed relieved  removed 8 skipped 0 failed 0" "$(relief state) $(totals)"
  sweep --pressure 85% --relieve 61%
  equal "and as many go" "not_needed relieved  12" "$(relief state) $(count "$A/cache/export")"
}

kind=XFS title="quota on XFS"
run_cases zone_bytes zone_inodes keep_free data_root elsewhere two_quotas
kind=ext4 title="quota on ext4"
run_cases zone_bytes zone_inodes two_quotas zone_full
umount "$D"
exit $failed
