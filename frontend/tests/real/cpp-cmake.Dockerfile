# syntax=docker/dockerfile:1
FROM ubuntu:24.04 AS toolchain
ARG DEBIAN_FRONTEND=noninteractive
RUN rm -f /etc/apt/apt.conf.d/docker-clean
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y --no-install-recommends \
      ccache cmake g++ git ninja-build libboost-dev libssl-dev

FROM toolchain AS build
ENV CCACHE_DIR=/ccache CMAKE_GENERATOR=Ninja
WORKDIR /build
RUN --mount=type=bind,source=.,target=/src,rw \
    --mount=type=cache,target=/ccache,mode=0755,uid=0,gid=0 \
    --mount=type=tmpfs,target=/tmp,size=512m \
    --network=none \
    cmake -S /src -B . -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
    && cmake --build . --parallel \
    && ctest --output-on-failure \
    && DESTDIR=/stage cmake --install . --strip

FROM ubuntu:24.04
RUN apt-get update && apt-get install -y --no-install-recommends libssl3t64 && rm -rf /var/lib/apt/lists/*
COPY --from=build /stage/ /
ENTRYPOINT ["/usr/local/bin/renderd"]
CMD ["-c", "/etc/renderd.conf"]
