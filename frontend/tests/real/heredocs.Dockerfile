# syntax=docker/dockerfile:1
FROM debian:bookworm-slim
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

RUN <<EOF
apt-get update
apt-get install -y --no-install-recommends curl jq
rm -rf /var/lib/apt/lists/*
EOF

RUN <<'PY' python3 -
import sys
print(f"{sys.version_info} << 1")
PY

RUN <<-SCRIPT
	#!/usr/bin/env bash
	# Tabs in front are taken off.
	for n in {1..3}; do
		echo "step $n of $((1 << 2))"
	done
SCRIPT

RUN cat <<A > /one && cat 3<<"B" <&3 > /two
first $HOME
A
second $HOME
B

ARG GREETING=hello
COPY <<motd <<"profile" /etc/files/
${GREETING}, \$USER
motd
export PS1='$ '
profile

COPY --chmod=0755 --chown=0:0 <<-"entry" /usr/local/bin/docker-entrypoint
	#!/bin/sh
	exec "$@"
entry

ENTRYPOINT ["docker-entrypoint"]
CMD ["bash"]
