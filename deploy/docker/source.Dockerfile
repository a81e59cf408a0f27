# The same image as that of Dockerfile, built from source with musl. It needs a base image and the crates:
#   docker build -f deploy/docker/source.Dockerfile -t sweeper:0.1.0 .
# The C library here is musl. It looks names up in /etc/hosts and DNS, and loads no libraries for that.
FROM rust:1.95-alpine AS build
# hadolint ignore=DL3018
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# Cargo wants every program that Cargo.toml names, even those that are not built.
COPY benches benches
RUN cargo build --profile static --locked

FROM scratch
COPY --from=build /src/target/static/sweeper /sweeper
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="sweeper" \
  org.opencontainers.image.description="Removes expired exports and abandoned temporary files from a CVAT data volume" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION" \
  org.opencontainers.image.created="$CREATED"
# The user of CVAT, by number, since there is no /etc/passwd.
USER 1000:1000
# Only a service answers (SWEEPER_LISTEN or --listen). A single pass does not, so the start period is as long as the
# longest pass.
HEALTHCHECK --interval=1m --timeout=10s --start-period=12h --retries=3 CMD ["/sweeper", "health"]
ENTRYPOINT ["/sweeper"]
CMD ["run"]
