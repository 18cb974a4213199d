# syntax=docker/dockerfile:1
FROM eclipse-temurin:21 AS jre
ARG MODULES="java.base,java.logging,java.naming,java.net.http,java.sql"
RUN "$JAVA_HOME/bin/jlink" \
         --add-modules "$MODULES" \
         --strip-debug \
         --no-man-pages \
         --no-header-files \
         --compress=zip-6 \
         --output /jre

FROM eclipse-temurin:21 AS build
WORKDIR /src
ADD --link . .
RUN javac -d /classes $(find . -name '*.java') && jar --create --file /app.jar --main-class Main -C /classes .

FROM debian:bookworm-slim
ENV JAVA_HOME=/opt/java
ENV PATH="${JAVA_HOME}/bin:${PATH}"
COPY --from=jre /jre $JAVA_HOME
COPY --from=build /app.jar /srv/app.jar
ENTRYPOINT ["java", "-jar", "/srv/app.jar"]
