#!/usr/bin/env bash
# The cases: each compares what is on the volume, in Redis or in the engine with what must be. Started by `run`.
set -uo pipefail
# shellcheck source=tests/engine/lib.sh
. "$ROOT/tests/engine/lib.sh"
# shellcheck source=tests/engine/images.sh
. "$ROOT/tests/engine/images.sh"
VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml" | sed 1q)

# An image of nothing: its programs are those of this machine.
prepare() {
  local host=$JOB/host
  mkdir -p "$host"/{usr,etc,tmp,proc,sys,dev,run,home/django/data}
  for link in bin lib lib64 sbin; do ln -sfn "usr/$link" "$host/$link"; done
  chmod 1777 "$host/tmp"
  printf 'root:x:0:0::/root:/bin/sh\ndjango:x:1000:1000::/home/django:/bin/sh\n' >"$host/etc/passwd"
  printf 'root:x:0:\ndjango:x:1000:\n' >"$host/etc/group"
  chown -R 1000:1000 "$host/home/django"
  tar -C "$host" -c . | docker import -c 'USER 1000' -c 'WORKDIR /home/django' -c 'VOLUME /home/django/data' - host >/dev/null
  docker network create cvat_cvat >/dev/null
  # CVAT's own stack, with an override by the operator. Compose calls the network, the volume and the containers as it
  # does with CVAT's own file.
  mkdir -p "$JOB/cvat"
  cat >"$JOB/cvat/docker-compose.yml" <<'END'
name: cvat
services:
  cvat_redis_inmem:
    container_name: cvat_redis_inmem
    image: host
    user: "0"
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --save, "", --dir, /tmp]
    volumes: ["/usr:/usr:ro"]
    networks: [cvat]
  cvat_worker_utils:
    container_name: cvat_worker_utils
    image: host
    command: [sleep, infinity]
    environment: {CVAT_REDIS_INMEM_HOST: cvat_redis_inmem}
    volumes: ["/usr:/usr:ro", "cvat_data:/home/django/data"]
    networks: [cvat]
volumes:
  cvat_data: {name: cvat_cvat_data}
networks:
  cvat: {name: cvat_cvat, external: true}
END
  cat >"$JOB/cvat/docker-compose.override.yml" <<'END'
services:
  cvat_redis_inmem:
    ports: ["127.0.0.1:6379:6379"]
END
  (cd "$JOB/cvat" && docker compose up -d --quiet-pull) >"$JOB/out" 2>"$JOB/err" || equal "the stack" 0 1
  V=$(dir_of cvat_cvat_data)
  CVAT="--network cvat_cvat --read-only --cap-drop ALL -e CVAT_REDIS_INMEM_HOST=cvat_redis_inmem -v cvat_cvat_data:$DATA"
  until_ok redis ping
}

# The lines of docs/deployment.md below a heading that begin with a word.
documented() {
  sed -n "/^## $1\$/,/^## /p" "$ROOT/docs/deployment.md" | sed -e ':a' -e '/\\$/N; s/\\\n *//; ta' | grep "^$2"
}

the_first_lines_about_docker_show_what_a_run_would_remove() {
  volume
  local lines
  lines=$(documented Docker 'docker run')
  equal "the first line" "docker run --rm -v cvat_cvat_data:/home/django/data sweeper:0.1.0 run --dry-run" "$(sed 1q <<<"$lines")"
  equal "lines" 2 "$(wc -l <<<"$lines")"
  while read -r line; do
    bash -euc "$line" >"$JOB/out" 2>"$JOB/err" </dev/null || equal "$line" 0 "$?"
    has "$line" 'would remove 220 of 232 entries' "$JOB/out"
    equal "what is removed by a dry run" 220 "$(left)"
  done <<<"$lines"
  nothing_lost
}

what_takes_the_space_of_the_host_is_asked_as_documented() {
  local line
  line=$(sed -n 's/^ *\(docker system df .*\)/\1/p' "$ROOT/docs/troubleshooting.md")
  bash -euc "$line" >"$JOB/out" 2>"$JOB/err" </dev/null || equal "$line" 0 "$?"
  has "the volume is listed" cvat_cvat_data "$JOB/out"
  # And where a volume lies, as the first page says.
  line=$(sed -n 's/.*`\(docker volume inspect [^`]*\)`.*/\1/p' "$ROOT/README.md")
  equal "$line" "$V" "$(bash -euc "$line")"
}

a_copy_in_a_running_container_works_without_a_terminal() {
  volume
  cp "$SWEEPER" "$JOB/sweeper"
  local lines
  lines=$(documented 'In a running container' 'docker')
  equal "lines" 3 "$(wc -l <<<"$lines")"
  while read -r line; do
    (cd "$JOB" && setsid bash -euc "$line" >"$JOB/out" 2>"$JOB/err" </dev/null) || equal "$line" 0 "$?"
  done <<<"$lines"
  has "the whole path in the report" '"/home/django/data": removed 220 of 232 entries' "$JOB/out"
  swept
}

the_sidecar_leaves_the_other_services_as_they_are() {
  volume
  local redis ports lines
  redis=$(docker inspect --format '{{.Id}} {{.State.StartedAt}}' cvat_redis_inmem)
  ports=$(docker port cvat_redis_inmem)
  equal "the port of the override" '6379/tcp -> 127.0.0.1:6379' "$ports"
  lines=$(documented 'Sidecar in the compose stack' 'docker compose')
  equal "lines" 2 "$(wc -l <<<"$lines")"
  while read -r line; do
    (cd "$JOB/cvat" && sweeper=$ROOT bash -euc "$line") >"$JOB/out" 2>"$JOB/err" </dev/null || equal "$line" 0 "$?"
  done <<<"$lines"
  equal "Redis" "$redis" "$(docker inspect --format '{{.Id}} {{.State.StartedAt}}' cvat_redis_inmem)"
  equal "its port" "$ports" "$(docker port cvat_redis_inmem)"
  until_ok docker exec cvat_sweeper /sweeper health
  # Even without --no-deps.
  (cd "$JOB/cvat" && docker compose -f docker-compose.yml -f "$ROOT/deploy/docker/sweeper.compose.yml" up -d cvat_sweeper) >"$JOB/out" 2>"$JOB/err"
  equal "Redis, without --no-deps" "$redis" "$(docker inspect --format '{{.Id}} {{.State.StartedAt}}' cvat_redis_inmem)"
  (cd "$JOB/cvat" && docker compose -f docker-compose.yml -f "$ROOT/deploy/docker/sweeper.compose.yml" run --rm --no-deps -T cvat_sweeper run --format json) >"$JOB/out" 2>"$JOB/err" </dev/null || equal "a pass" 0 "$?"
  equal "a report is one line" 1 "$(wc -l <"$JOB/out")"
  docker stop -t 120 cvat_sweeper >/dev/null
  equal "a service that is stopped" 0 "$(docker inspect --format '{{.State.ExitCode}}' cvat_sweeper)"
  docker rm cvat_sweeper >/dev/null
  swept
}

# in_a_pass NAME ARGUMENTS: starts a pass that takes its time, and returns in the middle of it.
in_a_pass() {
  volume 150
  docker run -d --name "$@" --max-rate 10/s --format json >/dev/null
  until_ok begun 320
}

a_pass_that_is_stopped_ends_with_3_and_a_report() {
  in_a_pass stopped $CVAT sweeper:0.1.0 run
  docker stop -t 120 stopped >/dev/null
  equal "exit code" 3 "$(docker inspect --format '{{.State.ExitCode}}' stopped)"
  docker logs stopped >"$JOB/out" 2>"$JOB/err"
  has "the report" '"stopped":"signal"' "$JOB/out"
  adds_up 320
  equal "it was in the middle" yes "$([ "$(left)" -gt 0 ] && echo yes)"
  docker rm stopped >/dev/null
  nothing_lost
  no_lock
  swept
}

a_pass_that_is_killed_loses_nothing_and_its_locks_expire() {
  for zones in export tmp; do
    in_a_pass killed $CVAT sweeper:0.1.0 run --lock-ttl 2s --zones $zones
    docker kill killed >/dev/null
    equal "exit code" 137 "$(docker inspect --format '{{.State.ExitCode}}' killed)"
    docker rm killed >/dev/null
    no_lock killed
    swept
  done
}

with_little_memory_and_processor_nothing_is_lost() {
  for limits in "--memory 16m --memory-swap 16m" "--cpus 0.5" "--memory 16m --memory-swap 16m --cpus 0.5 --pids-limit 8"; do
    volume 400
    # shellcheck disable=SC2086
    run --rm $limits $CVAT sweeper:0.1.0 run --format json
    case $code in
      0) equal "$limits: what has expired" 0 "$(left)" && adds_up 820 ;;
      # Killed by the kernel for its memory.
      137) no_lock killed ;;
      *) equal "$limits: exit code" "0 or 137" "$code" ;;
    esac
    nothing_lost
    swept
  done
}

with_few_processes_a_pass_has_fewer_workers() {
  local ran=0
  for limit in 1 2 3 4 5 6 7 8; do
    volume 20
    run --rm --pids-limit $limit $CVAT sweeper:0.1.0 run --jobs 4 --deadline 1h --format json
    if grep -q 'OCI runtime\|runc\|containerd' "$JOB/err"; then
      # The engine itself needs threads to start a container.
      equal "$limit: what was removed by a container that did not start" 60 "$(left)"
    else
      ran=$((ran + 1))
      equal "--pids-limit $limit: exit code" 0 "$code"
      equal "--pids-limit $limit: what has expired" 0 "$(left)"
      adds_up 60
    fi
    equal "--pids-limit $limit: panics" 0 "$(grep -c panicked "$JOB/err")"
    nothing_lost
    no_lock
  done
  equal "with most of these limits a container starts" yes "$([ $ran -ge 2 ] && echo yes)"
}

with_few_processes_a_service_is_whole_or_does_not_start() {
  for limit in 1 2 3 4 5 6 7 8; do
    volume 20
    # shellcheck disable=SC2086
    docker run -d --name few --pids-limit $limit $CVAT -e SWEEPER_LISTEN=9108 sweeper:0.1.0 serve --at-start --jobs 4 --deadline 1h >"$JOB/out" 2>"$JOB/err"
    ended_or_swept() { [ "$(left)" = 0 ] || [ "$(docker inspect --format '{{.State.Running}}' few)" = false ]; }
    until_ok ended_or_swept
    docker stop -t 120 few >/dev/null
    code=$(docker inspect --format '{{.State.ExitCode}}' few)
    docker logs few >"$JOB/out" 2>"$JOB/err"
    if [ "$(left)" = 0 ]; then
      equal "$limit: exit code of a service that is stopped" yes "$([ "$code" = 0 ] || [ "$code" = 3 ] && echo yes)"
    elif [ "$code" = 2 ]; then
      has "$limit: the reason" "--pids-limit of a container" "$JOB/err"
    else
      # The engine could not start it: 127 or 128.
      equal "$limit: exit code" yes "$([ "$code" -gt 125 ] && echo yes)"
    fi
    equal "--pids-limit $limit: panics" 0 "$(grep -c panicked "$JOB/err")"
    docker rm --force few >/dev/null
    nothing_lost
    no_lock
  done
}

health_of() {
  docker inspect --format '{{.State.Health.Status}}' "$1"
}

is_health() {
  [ "$(health_of "$1")" = "$2" ]
}

on_a_new_volume_the_service_waits_and_is_unhealthy() {
  docker run -d --name new --restart always --health-interval 500ms --health-start-period 1ms --health-retries 1 --read-only --cap-drop ALL \
    -e SWEEPER_LISTEN=9108 -v new:$DATA sweeper:0.1.0 serve >/dev/null
  until_ok is_health new unhealthy
  docker inspect --format '{{(index .State.Health.Log 0).Output}}' new >"$JOB/out"
  has "the reason" "not healthy: waiting for the data root" "$JOB/out"
  equal "restarts" 0 "$(docker inspect --format '{{.RestartCount}}' new)"
  # CVAT's server comes up. The engine gives the volume the owner that its image has there.
  docker run --rm -v /usr:/usr:ro -v new:$DATA host sh -c 'mkdir -p data/cache/export data/tmp' || equal "CVAT can write there" 0 1
  until_ok is_health new healthy
  docker stop -t 120 new >/dev/null
  equal "exit code" 0 "$(docker inspect --format '{{.State.ExitCode}}' new)"
  docker rm --volumes new >/dev/null
}

the_health_check_sees_a_service_and_no_problem_in_a_pass() {
  volume 150
  docker run -d --name pass $CVAT --health-interval 300ms sweeper:0.1.0 run --max-rate 10/s >/dev/null
  probed() { docker inspect --format '{{len .State.Health.Log}}' pass | grep -q '[3-5]'; }
  until_ok probed
  equal "health of a single pass" starting "$(health_of pass)"
  docker rm --force pass >/dev/null
  swept
}

# What others can do to a volume that they can write to: links to what does not belong to it, other kinds of files, names
# for a terminal, a tree that only root can enter, one that is very deep, and a hard link to a medium.
hostile() {
  local export=$V/cache/export tmp=$V/tmp
  mkdir -p "$V/tasks/1/data"
  printf medium >"$V/tasks/1/data/medium"
  # shellcheck disable=SC2059
  ln -s /home/django/data/tasks/1/data/medium "$export/$(printf "$NAME" 800001)"
  # shellcheck disable=SC2059
  mkdir "$export/$(printf "$NAME" 800002)"
  # shellcheck disable=SC2059
  mkfifo "$export/$(printf "$NAME" 800003)"
  ln -s ../tasks "$tmp/tmplink"
  mkdir -p "$tmp/treelinks" && ln -s ../../tasks "$tmp/treelinks/tasks" && ln -s / "$tmp/treelinks/root"
  mkfifo "$tmp/tmpfifo"
  ln "$V/tasks/1/data/medium" "$tmp/tmphard"
  printf x >"$tmp/"$'tmp\e[2J\e]0;title\a\n"}'
  (cd "$tmp" && mkdir treedeep && cd treedeep && for _ in $(seq 300); do mkdir d && cd d || exit; done)
  chown -Rh 1000:1000 "$V"
  mkdir -p "$tmp/treeroot/inner" && printf x >"$tmp/treeroot/inner/file" && chmod 700 "$tmp/treeroot"
  find "$V" -depth -not -name 'fresh*' -not -name 'new' -not -name 'file[0-9]' -not -path '*/task-90000*' \
    -not -path '*/fresh*' -not -path '*/half*' -exec touch -h -d '40 days ago' {} +
}

a_hostile_volume_costs_only_what_cannot_be_removed() {
  volume 50
  hostile
  # shellcheck disable=SC2086
  run --rm $CVAT sweeper:0.1.0 run --dry-run -v
  has "a name for a terminal" 'title' "$JOB/err"
  equal "control characters in what is printed" 0 "$(cat "$JOB/out" "$JOB/err" | grep -c $'[\e\a]')"
  # shellcheck disable=SC2086
  run --rm --memory 32m --memory-swap 32m --cpus 0.5 --pids-limit 8 $CVAT sweeper:0.1.0 run --format json
  equal "the tree of root fails" 1 "$code"
  equal "failures" '["/home/django/data/tmp/treeroot"]' "$(jq -c '[.failures[].path]' "$JOB/out")"
  equal "what has expired, but for it and what is no export" treeroot "$(find "$V/tmp" -mindepth 1 -maxdepth 1 \( -name 'tmp*' -o -name 'tree*' \) -printf '%f')"
  equal "what has the name of an export and is none" 3 "$(find "$V/cache/export" -name 'task-80000*' | wc -l)"
  equal "the medium" medium "$(cat "$V/tasks/1/data/medium")"
  equal "the sums" true "$(jq '.totals | .seen == .removed + .kept + .skipped + .failed' "$JOB/out")"
  nothing_lost
  no_lock
}

an_upgrade_in_the_middle_of_a_pass_loses_nothing() {
  volume 150
  cat >"$JOB/cvat/busy.yml" <<'END'
services:
  cvat_sweeper:
    environment: {SWEEPER_AT_START: "true", SWEEPER_MAX_RATE: 20/s, SWEEPER_FORMAT: json, SWEEPER_MAX_SHARE: 100%}
END
  docker tag sweeper:0.1.0 sweeper:old
  printf 'FROM sweeper:0.1.0\nLABEL version=next\n' | docker build --quiet --tag sweeper:next - >/dev/null
  up() {
    (cd "$JOB/cvat" && SWEEPER_VERSION=$1 docker compose -f docker-compose.yml -f "$ROOT/deploy/docker/sweeper.compose.yml" -f busy.yml up -d --no-deps cvat_sweeper) >"$JOB/out" 2>"$JOB/err" || equal "up $1" 0 1
  }
  up old
  until_ok begun 320
  up next
  equal "the pass was in the middle" yes "$([ "$(left)" -gt 0 ] && echo yes)"
  equal "the new image" sweeper:next "$(docker inspect --format '{{.Config.Image}}' cvat_sweeper)"
  nothing_lost
  done_by_next() { [ "$(left)" = 0 ]; }
  until_ok done_by_next
  docker rm --force cvat_sweeper >/dev/null
  no_lock
  swept
}

title=preparation
prepare
all=$(sed -n 's/^\([a-z0-9_]*\)() {$/\1/p' "$ROOT"/tests/engine/{images,cases}.sh | grep '_.*_' | grep -v "^in_a_pass$")
if [ $# -gt 0 ]; then
  # The image is needed by all others.
  all="the_image_is_built_without_a_base_image_or_a_network $*"
fi
for case in $all; do
  title=${case//_/ }
  declare -F "$case" >/dev/null || { echo "tests/engine/run: there is no case $case" >&2; exit 2; }
  before=$failed start=$SECONDS
  failed=0
  "$case"
  if [ $failed = 0 ]; then
    echo "ok      $title ($((SECONDS - start)) s)"
    failed=$before
  fi
done
exit "$failed"
