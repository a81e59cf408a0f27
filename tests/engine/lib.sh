# Sourced by the cases: a volume with what expires and what is fresh, and what must be true after each case.
DATA=/home/django/data
NAME=task-%d-dataset-instance1736428000.5-coco-10.zip
failed=0

# equal WHAT EXPECTED ACTUAL
equal() {
  if [ "$2" != "$3" ]; then
    echo "FAILED  $title: $1: expected '$2', not '$3'"
    tail -n 4 "$JOB/out" "$JOB/err" 2>/dev/null | cut -c1-600 | sed 's/^/        /'
    failed=1
  fi
}

# has WHAT TEXT FILE
has() {
  grep -qF -- "$2" "$3" || equal "$1" "$2" "$(tail -n 3 "$3" | cut -c1-600)"
}

# run ARGUMENTS: `docker run` with its output in $JOB/out and $JOB/err, and its exit code in $code.
run() {
  code=0
  docker run "$@" >"$JOB/out" 2>"$JOB/err" </dev/null || code=$?
}

# until_ok COMMAND...: waits until it succeeds. The limit only ends a test that would hang.
until_ok() {
  for _ in $(seq 3000); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  equal "waited for: $*" 0 1
}

# The directory of a volume on this machine.
dir_of() {
  docker volume inspect --format '{{.Mountpoint}}' "$1"
}

# volume [EXPORTS]: empties cvat_cvat_data, and puts in so many expired exports, as many temporary files, twenty
# temporary trees, and fresh ones of each kind. What is fresh, with its content, goes to $JOB/fresh.
volume() {
  local number=${1:-100} name tree file
  find "$V" -mindepth 1 -delete
  mkdir -p "$V/cache/export" "$V/tmp"
  for n in $(seq "$number"); do
    # shellcheck disable=SC2059
    printf -v name "$NAME" "$n"
    printf x >"$V/cache/export/$name"
    printf x >"$V/tmp/tmp$n"
  done
  for tree in $(printf 'tree%d ' $(seq 20)) half1 half2 half3; do
    mkdir -p "$V/tmp/$tree/a/b"
    for file in {,a/,a/b/}{1..5}; do printf x >"$V/tmp/$tree/$file"; done
  done
  find "$V" -depth -exec touch -h -d '40 days ago' {} +
  for n in 1 2 3; do
    printf "fresh $n" >"$V/cache/export/$(printf $NAME $((900000 + n)))"
    mkdir -p "$V/tmp/fresh$n/a"
    printf "fresh $n" | tee "$V/tmp/fresh$n/a/file" >"$V/tmp/file$n"
    # Most of this tree has expired, and one file of it has not.
    printf "fresh $n" >"$V/tmp/half$n/a/b/new"
  done
  chown -R 1000:1000 "$V"
  fresh >"$JOB/fresh"
}

# What is fresh, by path and content.
fresh() {
  (cd "$V" && find cache/export -name '*task-90000*' -type f -exec sha256sum {} + &&
    find tmp/fresh* tmp/file* tmp/half* -type f -exec sha256sum {} +) 2>&1 | sort -k 2
}

# How much of what has expired is left.
left() {
  # shellcheck disable=SC2012
  find "$V/cache/export" "$V/tmp" -mindepth 1 -maxdepth 1 \( -name 'task-*' -not -name 'task-90000*' -o -name 'tmp*' -o -name 'tree*' \) | wc -l
}

# adds_up EXPIRED: the report in $JOB/out says of what has expired just what is on the volume, and its sums are right.
adds_up() {
  equal "removed, by the report and on the volume" "$(($1 - $(left)))" "$(jq '.totals.removed' "$JOB/out")"
  equal "the sums of the report" true "$(jq '.totals as $all | all(.zones[], $all; .seen == .removed + .kept + .skipped + .failed)
    and ([.zones[].removed] | add) == $all.removed' "$JOB/out")"
}

# begun: whether a pass has removed something, and not all.
begun() {
  [ "$(left)" -lt "$1" ]
}

redis() {
  docker exec cvat_redis_inmem redis-cli "$@"
}

# nothing_lost: nothing fresh is gone, changed or moved.
nothing_lost() {
  equal "what is fresh" "$(cat "$JOB/fresh")" "$(fresh)"
}

# no_lock: no key is left in Redis; one of a container that was killed may last for as long as its time to live.
no_lock() {
  equal "Redis" PONG "$(redis --raw ping)"
  for key in $(redis --raw keys '*'); do
    if [ "${1-}" = killed ]; then
      # It may have expired by now, which is -2.
      equal "the lock $key of a killed container expires" yes "$([ "$(redis --raw pttl "$key")" -ne -1 ] && echo yes)"
    else
      equal "locks" none "$key"
    fi
  done
}

# swept: the next pass does the rest, and leaves nothing of its own.
swept() {
  run --rm $CVAT sweeper:0.1.0 run --format json --lock-wait 40s --if-running wait
  equal "the next pass" 0 "$code"
  equal "what has expired after the next pass" 0 "$(left)"
  equal "what is left of earlier passes" "" "$(find "$V" -name '*.sweeper*')"
  nothing_lost
  no_lock
}
