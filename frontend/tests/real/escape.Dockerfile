# escape=`

FROM busybox:1.36
LABEL description="Paths with \backslashes\ need no care here" `
      vendor="C:\Example"
ENV WINE_PREFIX="C:\windows\system32" SHARE=\\server\share
COPY ["win files/setup.ini", "/opt/"]
WORKDIR /opt/app
RUN echo one && `
    # a remark
    echo `two` && `
    printf '%s\n' "three"
CMD [ "sh", "-c", "echo C:\\temp" ]
