FROM gradle:8-jdk21-alpine AS build
USER gradle
WORKDIR /home/gradle/project
COPY --chown=gradle:gradle gradle gradle
COPY --chown=gradle:gradle build.gradle.kts settings.gradle.kts gradle.properties gradlew ./
RUN ./gradlew --no-daemon dependencies > /dev/null
COPY --chown=gradle:gradle . .
RUN ./gradlew --no-daemon installDist -x test

FROM eclipse-temurin:21-jre-alpine
ARG BUILD_DATE
ARG VCS_REF
LABEL org.opencontainers.image.created=$BUILD_DATE \
      org.opencontainers.image.revision="${VCS_REF}" \
      maintainer="team@example.com"
COPY --from=build /home/gradle/project/app/build/install/app /opt/app
ENV JAVA_OPTS='-Xms64m -Xmx512m'
WORKDIR /opt/app
CMD ["/opt/app/bin/app", "--config", "conf/production.conf"]
