# syntax=docker/dockerfile:1
FROM alpine:3.20 AS fetch
ARG TOOL_VERSION=1.4.2
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d \
    https://example.com/releases/tool-${TOOL_VERSION}.tar.gz /tmp/tool.tar.gz
ADD --chmod=755 https://example.com/install.sh /usr/local/bin/install-tool
RUN tar -C /opt -xzf /tmp/tool.tar.gz

FROM alpine:3.20 AS source
ADD https://example.com/team/library.git#v2.1.0:src /src/library
ADD --keep-git-dir=true https://example.com/team/app.git /src/app
RUN apk add --no-cache build-base git openssh-client
WORKDIR /src/app
RUN mkdir -p -m 0700 ~/.ssh && ssh-keyscan git.example.com >> ~/.ssh/known_hosts
RUN --mount=type=ssh,required=true git submodule update --init
RUN --mount=type=ssh,id=deploy,mode=0600 \
    --mount=type=secret,id=netrc,target=/root/.netrc,mode=0400 \
    make install DESTDIR=/out

FROM alpine:3.20
ADD --link rootfs.tar.gz /
COPY --link --from=fetch --chown=1001:1001 /opt/tool /opt/tool
COPY --link --from=source /out/ /
COPY --link --from=nginx:1.27-alpine /etc/nginx/mime.types /etc/mime.types
USER 1001
ENTRYPOINT ["/opt/tool/bin/tool"]
