# syntax=docker/dockerfile:1.7-labs
FROM node:22-slim AS manifests
WORKDIR /repo
COPY --parents package.json package-lock.json packages/*/package.json apps/*/package.json ./

FROM node:22-slim AS deps
WORKDIR /repo
COPY --from=manifests /repo .
RUN --mount=type=cache,target=/root/.npm npm ci

FROM deps AS build
ARG APP=web
COPY --parents --exclude=**/*.test.ts --exclude=**/__snapshots__ packages apps/${APP} ./
COPY --parents ./config/./tsconfig.*.json ./
RUN npm run build --workspace "apps/$APP"

FROM node:22-slim
ARG APP=web
ENV APP_NAME=${APP}
WORKDIR /srv
COPY --from=build --link /repo/apps/${APP}/dist ./
COPY --from=deps --link --chown=1000:1000 /repo/node_modules ./node_modules
CMD ["node", "index.js"]
