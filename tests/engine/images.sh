# Sourced by the cases: how the image is made, by an engine, from the sources, and without an engine.

the_image_is_built_without_a_base_image_or_a_network() {
  "$ROOT/deploy/docker/build" "$SWEEPER" >"$JOB/out" 2>"$JOB/err" || equal "deploy/docker/build" 0 "$?"
  has "what it says" "sweeper:$VERSION linux/" "$JOB/out"
  of() { docker image inspect --format "$1" "sweeper:$VERSION"; }
  equal "user and entry point" '1000:1000 [/sweeper] [run]' "$(of '{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}}')"
  equal "health check" '[CMD /sweeper health]' "$(of '{{.Config.Healthcheck.Test}}')"
  equal "version" "$VERSION" "$(of '{{index .Config.Labels "org.opencontainers.image.version"}}')"
  equal "revision" "$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)" "$(of '{{index .Config.Labels "org.opencontainers.image.revision"}}')"
  equal "layers" 1 "$(of '{{len .RootFS.Layers}}')"
  equal "size" "$(stat -c %s "$SWEEPER")" "$(of '{{.Size}}')"
  run --rm "sweeper:$VERSION" --version
  equal "it runs" "sweeper $VERSION" "$(cat "$JOB/out")"
}

an_image_for_arm_is_marked_as_such() {
  # Not run: the head of an ELF file is all that is looked at.
  mkdir -p "$JOB/arm"
  { head -c 18 "$SWEEPER"; printf '\xb7\x00'; tail -c +21 "$SWEEPER"; } >"$JOB/arm/sweeper"
  "$ROOT/deploy/docker/build" "$JOB/arm/sweeper" sweeper:arm >"$JOB/out" 2>"$JOB/err" || equal "deploy/docker/build" 0 "$?"
  equal "platform" "sweeper:arm linux/arm64" "$(cat "$JOB/out")"
  equal "architecture" arm64 "$(docker image inspect --format '{{.Architecture}}' sweeper:arm)"
}

the_builder_of_an_engine_makes_the_image_from_the_sources_by_every_line_of_its_file() {
  # In place of the base image, which cannot be had here: a shell, an `apk` that knows the name of the package, and a
  # `cargo` that looks for the sources that Cargo.toml names, and has the binary ready.
  local base=$JOB/base line size
  mkdir -p "$base"/{bin,src}
  cp "$PROGRAMS/bin/busybox" "$base/bin/busybox"
  for program in sh cp mkdir ls sed; do ln -s busybox "$base/bin/$program"; done
  cp "$SWEEPER" "$base/ready"
  printf '#!/bin/sh\n[ "$*" = "add --no-cache musl-dev" ]\n' >"$base/bin/apk"
  cat >"$base/bin/cargo" <<'END'
#!/bin/sh
set -eux
[ "$*" = "build --profile static --locked" ]
for file in $(sed -n 's/^path = "\(.*\)"$/\1/p' Cargo.toml) src/lib.rs benches/judge.rs; do [ -f "$file" ]; done
[ "$(echo *)" = "Cargo.lock Cargo.toml benches src" ]
mkdir -p target/static
cp /ready target/static/sweeper
END
  chmod 755 "$base"/bin/{apk,cargo}
  tar -C "$base" -c . | docker import - "$(sed -n 's/^FROM \(rust:[^ ]*\) AS build$/\1/p' "$ROOT/deploy/docker/source.Dockerfile")" >/dev/null
  line=$(sed -n 's/^#   \(docker build -f .*\)/\1/p' "$ROOT/deploy/docker/source.Dockerfile")
  (cd "$ROOT" && bash -euc "${line/sweeper:$VERSION/sweeper:source}") >"$JOB/out" 2>"$JOB/err" </dev/null || equal "$line" 0 "$?"
  # What was built, and version control, are not sent to the builder.
  size=$(tr '\r' '\n' <"$JOB/out" | sed -n 's/^Sending build context to Docker daemon *//p' | tail -n 1)
  equal "less than 10 MB are sent to the builder: $size" yes "$([[ $size =~ ^([0-9.]+kB|[0-9]\.[0-9]+MB) ]] && echo yes)"
  run --rm sweeper:source --version
  equal "it runs" "sweeper $VERSION" "$(cat "$JOB/out")"
  of() { docker image inspect --format '{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.Healthcheck}} {{len .RootFS.Layers}}' "$1"; }
  equal "the image" "$(of "sweeper:$VERSION")" "$(of sweeper:source)"
}

the_released_archives_are_loaded_as_the_image_that_an_engine_builds() {
  # That of the other machine is the first one with the head of its file.
  "$ROOT/deploy/docker/archive" "$JOB" "$SWEEPER" "$JOB/arm/sweeper" >"$JOB/out" 2>"$JOB/err" || equal "deploy/docker/archive" 0 "$?"
  equal "archives" 3 "$(grep -c "^$JOB/sweeper-$VERSION-image" "$JOB/out")"
  # What the builder leaves empty is the same as what is not there.
  settings() {
    docker image inspect --format '{{json .Config}} "{{.Os}}/{{.Architecture}}"' "$1" | jq -cS '
      if type == "object" then del(.Image) | with_entries(select(.value | . and . != "" and . != {})) else . end'
  }
  local built arm line
  built=$(settings "sweeper:$VERSION")
  arm=$(settings sweeper:arm)
  docker tag "sweeper:$VERSION" sweeper:built
  docker rmi "sweeper:$VERSION" >/dev/null
  line=$(documented Docker 'docker load')
  equal "lines" 1 "$(wc -l <<<"$line")"
  (cd "$JOB" && bash -euc "$line") >"$JOB/out" 2>"$JOB/err" </dev/null || equal "$line" 0 "$?"
  equal "what the engine says" "Loaded image: sweeper:$VERSION" "$(grep -o 'Loaded image: .*' "$JOB/out")"
  equal "the image" "$built" "$(settings "sweeper:$VERSION")"
  run --rm "sweeper:$VERSION" --version
  equal "it runs" "sweeper $VERSION" "$(cat "$JOB/out")"
  docker load --input "$JOB/sweeper-$VERSION-image-arm64.tar" >"$JOB/out" 2>"$JOB/err" || equal "docker load" 0 "$?"
  equal "the image for arm64" "$arm" "$(settings "sweeper:$VERSION")"
  # An engine that does not choose by the machine gets each of the list by its name.
  docker load --input "$JOB/sweeper-$VERSION-image.tar" >"$JOB/out" 2>"$JOB/err" || equal "docker load" 0 "$?"
  equal "the image of the list" "$built" "$(settings "sweeper:$VERSION-amd64")"
  equal "the image of the list for arm64" "$arm" "$(settings "sweeper:$VERSION-arm64")"
  # containerd chooses. This is how a node of a cluster gets it.
  ctr() { command ctr --address "$CONTAINERD" --namespace k8s.io "$@"; }
  ctr images import --all-platforms "$JOB/sweeper-$VERSION-image.tar" >"$JOB/out" 2>"$JOB/err" || equal "ctr images import" 0 "$?"
  equal "containerd's image" "docker.io/library/sweeper:$VERSION linux/amd64,linux/arm64" \
    "$(ctr images ls | awk '/sweeper/ { print $1, $6 }')"
  ctr images rm "docker.io/library/sweeper:$VERSION" >/dev/null
  docker tag sweeper:built "sweeper:$VERSION"
}
