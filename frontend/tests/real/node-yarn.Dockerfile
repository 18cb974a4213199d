FROM node:22-alpine AS builder

WORKDIR /build
RUN corepack enable
COPY .yarnrc.yml package.json yarn.lock ./
COPY .yarn/releases .yarn/releases
RUN yarn install --immutable
COPY tsconfig.json ./
COPY src ./src
RUN yarn build \
 && yarn workspaces focus --production \
 && rm -rf .yarn/cache

FROM node:22-alpine
LABEL org.opencontainers.image.title="orders" \
      org.opencontainers.image.licenses="MIT"
RUN apk add --no-cache tini
WORKDIR /app
COPY --from=builder /build/node_modules ./node_modules
COPY --from=builder /build/dist ./dist
COPY --from=builder /build/package.json .
USER 1000:1000
EXPOSE 8080/tcp
ENTRYPOINT ["/sbin/tini", "--"]
CMD ["node", "dist/main.js"]
