# syntax=docker/dockerfile:1
FROM golang:1.23 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -mod=readonly"
RUN --mount=type=bind,source=go.mod,target=go.mod \
    --mount=type=bind,source=go.sum,target=go.sum \
    --mount=type=cache,target=/go/pkg/mod,sharing=locked \
    go mod download -x
ARG VERSION=devel COMMIT
RUN --mount=type=bind,target=. \
    --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    go build -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT:-none}" \
        -o /out/server ./cmd/server

FROM build AS test
RUN --mount=target=. --mount=type=cache,target=/go/pkg/mod go test ./...

FROM example.com/distroless/static-debian12:nonroot
COPY --link --from=build /out/server /usr/local/bin/
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/server"]
CMD ["--listen=:8080"]
