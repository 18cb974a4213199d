# syntax=docker/dockerfile:1.4
FROM --platform=${BUILDPLATFORM} rust:1-alpine AS build
ARG TARGETARCH
RUN apk add --no-cache musl-dev
WORKDIR /src
RUN case "$TARGETARCH" in \
      amd64) echo x86_64-unknown-linux-musl ;; \
      arm64) echo aarch64-unknown-linux-musl ;; \
      *) echo "unsupported: $TARGETARCH" >&2; exit 1 ;; \
    esac > /target \
    && rustup target add "$(cat /target)"
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=target-${TARGETARCH},sharing=private \
    cargo build --release --locked --target "$(cat /target)" && \
    cp "target/$(cat /target)/release/tool" /tool

FROM scratch
COPY --from=build --chmod=0555 /tool /tool
USER 65534:65534
ENTRYPOINT ["/tool"]
