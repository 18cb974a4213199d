FROM debian:bookworm
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG MIRROR="http://archive.example.com/debian"
RUN curl -fsSL "$MIRROR/key.asc" | gpg --dearmor > /usr/share/keyrings/example.gpg \
 && echo "deb [signed-by=/usr/share/keyrings/example.gpg] $MIRROR stable main" \
    > /etc/apt/sources.list.d/example.list \
 && apt-get update \
 && apt-get install -y example \
 && rm -rf /var/lib/apt/lists/*
RUN ["/bin/bash", "-c", "echo 'exec form' && example --version"]
SHELL ["/bin/sh", "-c"]
COPY --chmod=u=rwX,go=rX --exclude=*.md --exclude=docs etc/ /etc/example/
VOLUME ["/var/lib/example", "/var/log/example"]
EXPOSE 5000-5002/udp 5000/tcp
USER example:example
ENTRYPOINT exec example --config /etc/example/main.conf
