# Sourced by the cases. Each case compares what is on the server, or what the report says, with what must be.
export SWEEPER_PROGRESS=never NO_COLOR=1
. /job/chosen
DAY=86400
E=task-%d-dataset-instance1736428000.5-coco-10.zip
failed=0

# equal NAME EXPECTED ACTUAL
equal() {
  if [ "$2" = "$3" ]; then
    echo "ok      $title: $1"
  else
    echo "FAILED  $title: $1: expected '$2', not '$3'"
    (tail -n 3 /tmp/report; tail -n 3 /tmp/errors) 2>/dev/null | cut -c1-1000 | sed 's/^/        /'
    failed=1
  fi
}

# sweep ARGUMENTS: one run on the data root $A; the report goes to /tmp/report.
sweep() {
  timeout 120 sweeper run --data "$A" --format jsonl --lock-wait 0s "$@" >/tmp/report 2>/tmp/errors
  code=$?
}

# totals: what the report of the last run sums up to.
totals() {
  tail -n 1 /tmp/report | sed -n 's/.*"totals":{"seen":[0-9]*,"removed":\([0-9]*\),"kept":[0-9]*,"skipped":\([0-9]*\),"failed":\([0-9]*\),.*/removed \1 skipped \2 failed \3/p'
}

# freed: the space that the last run says it has freed.
freed() {
  tail -n 1 /tmp/report | sed -n 's/.*"totals":{[^}]*"freed_bytes":\([0-9]*\)}.*/\1/p'
}

# reason NAME: why the last run did not remove an entry.
reason() {
  grep -F "/$1\"" /tmp/report | sed -n 's/.*"reason":"\([a-z_]*\)".*/\1/p' | head -n 1
}

# says TEXT: yes if the last report contains it.
says() {
  if grep -qF -- "$1" /tmp/report; then echo yes; else echo no; fi
}

# old PATH...: gives it an age of 40 days, through the server.
old() {
  touch -h -d "@$(($(date +%s) - 40 * DAY))" "$@"
}

# tree_in TMP NAME FILES: an old tree.
tree_in() {
  mkdir -p "$1/$2/sub"
  entries "$1/$2" "$3" $((40 * DAY)) f%d
  entries "$1/$2/sub" "$3" $((40 * DAY)) g%d
  old "$1/$2/sub" "$1/$2"
}

# count DIR: how many names are in it.
count() {
  ls -A "$1" 2>/dev/null | wc -l
}

# until COMMAND: waits until it succeeds, for at most 30 s.
until_ok() {
  for _ in $(seq 1500); do
    if eval "$1"; then return 0; fi
    usleep 20000
  done
  return 1
}

# hold_open FILE: opens it for reading in a process of its own. Its name changes when it has opened the file.
hold_open() {
  sleep 600 <"$1" &
  until_ok "grep -q sleep /proc/$!/comm"
}

# run_cases NAME...: those of them that were asked for.
run_cases() {
  for case in "$@"; do
    if [ -n "$cases" ] && ! echo " $cases " | grep -qF " ${case%% *} "; then continue; fi
    empty
    $case
  done
}
