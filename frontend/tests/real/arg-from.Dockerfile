ARG REGISTRY=docker.io/library
ARG DISTRO=debian
ARG SUITE=bookworm VARIANT=-slim
ARG FLAVOUR=minimal

FROM ${REGISTRY}/${DISTRO}:${SUITE}${VARIANT} AS base
ARG DISTRO
ARG SUITE
RUN echo "$DISTRO $SUITE" > /etc/built-on

FROM base AS minimal
ENV FEATURES=core

FROM base AS full
ENV FEATURES=core,extra
RUN apt-get update && apt-get install -y git vim && rm -rf /var/lib/apt/lists/*

FROM ${FLAVOUR:-minimal} AS final
ARG MAJOR=2
ARG MINOR=${MAJOR}.7
ARG FULL=${MINOR}.1-rc1
ENV VERSION=${FULL%-*} \
    SERIES=${FULL%%.*} \
    TAG=${FULL#*-} \
    SLUG=${FULL//./_}
LABEL version="${VERSION}" flavour="${FEATURES/,*/}"
WORKDIR /opt/${SLUG}
CMD ["sh", "-c", "echo $FEATURES $VERSION"]
