# syntax=docker/dockerfile:1.9
FROM python:3.13-slim AS build

COPY --from=example.com/tools/uv:0.5 /uv /uvx /bin/
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/app

# Dependencies first: they change less often than the project.
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml <<EOT
cd /
uv sync \
    --locked \
    --no-dev \
    --no-install-project
EOT

COPY . /src
WORKDIR /src
RUN --mount=type=cache,target=/root/.cache \
    uv sync --locked --no-dev --no-editable

FROM python:3.13-slim
SHELL ["sh", "-exc"]
ENV PATH=/app/bin:$PATH
RUN <<EOT
groupadd -r app
useradd -r -d /app -g app -N app
EOT
STOPSIGNAL SIGINT
COPY --from=build --chown=app:app /app /app
USER app
WORKDIR /app
RUN <<EOT
python -V
python -Im site
EOT
CMD ["python", "-m", "service"]
