FROM busybox:1.36-musl AS busybox
FROM scratch AS rootfs
COPY --from=busybox /bin/busybox /bin/busybox
COPY --from=busybox /etc/passwd /etc/group /etc/
FROM rootfs
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin \
    HOME=/root \
    TERM=xterm
ADD overlay.tar.xz /
COPY scripts/ /usr/local/bin/
RUN set -o errexit; \
    for applet in sh ls cat; do \
        test -x "/bin/$applet" || { echo "missing: $applet"; exit 1; }; \
    done
WORKDIR /root
CMD ["sh", "-l"]
