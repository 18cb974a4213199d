# syntax=docker/dockerfile:1.8@sha256:e87caa74dcb7d46cd820352bfea12591f3dba3ddc4285e19c7dcd13359f7cefd
# check=skip=JSONArgsRecommended,SecretsUsedInArgOrEnv;error=true
FROM postgres:16
ENV POSTGRES_PASSWORD_FILE=/run/secrets/db POSTGRES_DB=app
ENV AUTH_TOKEN=placeholder
COPY --chown=postgres:postgres init/*.sql /docker-entrypoint-initdb.d/
# check=skip=WorkdirRelativePath
WORKDIR work
HEALTHCHECK --interval=5s --timeout=2s --start-period=20s --start-interval=1s --retries=10 \
    CMD pg_isready -U postgres -d "$POSTGRES_DB" || exit 1
CMD postgres -c max_connections=200
