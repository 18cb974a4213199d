# syntax=docker/dockerfile:1
ARG GO_VERSION=1.23
ARG ALPINE_VERSION=3.20
ARG XX_VERSION=1.5.0

FROM --platform=$BUILDPLATFORM tonistiigi/xx:${XX_VERSION} AS xx

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine${ALPINE_VERSION} AS base
RUN apk add --no-cache file git clang lld
COPY --from=xx / /
WORKDIR /go/src/agent

FROM base AS build
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT
RUN xx-apk add --no-cache musl-dev gcc
RUN --mount=type=bind,target=. \
    --mount=type=cache,target=/go/pkg/mod,id=mod-$TARGETPLATFORM \
    --mount=type=cache,target=/root/.cache,id=agent/build-$TARGETARCH <<EOT
set -e
echo "Building for ${TARGETOS}/${TARGETARCH}${TARGETVARIANT:+/$TARGETVARIANT}"
xx-go build -o /out/agent .
xx-verify --static /out/agent
EOT

FROM scratch AS binary
COPY --from=build /out/agent /agent-binary

FROM alpine:${ALPINE_VERSION}
ARG TARGETARCH
LABEL arch=${TARGETARCH}
RUN --mount=type=bind,from=build,source=/out,target=/from \
    install -m 0755 /from/agent /usr/bin/agent
ENTRYPOINT ["agent"]
