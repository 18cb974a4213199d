# syntax=docker/dockerfile:1

FROM composer:2 AS vendor
WORKDIR /app
COPY composer.json composer.lock ./
RUN --mount=type=cache,target=/tmp/cache \
    COMPOSER_CACHE_DIR=/tmp/cache composer install --no-dev --no-interaction --no-scripts --prefer-dist

FROM node:22-alpine AS assets
WORKDIR /app
COPY package*.json vite.config.js ./
RUN npm ci
COPY resources resources
RUN npm run build

FROM php:8.3-fpm-alpine
RUN set -eux; \
	apk add --no-cache icu-libs libzip; \
	apk add --no-cache --virtual .build-deps $PHPIZE_DEPS icu-dev libzip-dev; \
	docker-php-ext-install -j"$(nproc)" intl opcache pdo_mysql zip; \
	apk del .build-deps
WORKDIR /var/www/html
COPY docker/php/conf.d/*.ini /usr/local/etc/php/conf.d/
COPY --chown=www-data:www-data . .
COPY --from=vendor --chown=www-data:www-data /app/vendor ./vendor
COPY --from=assets --chown=www-data:www-data /app/public/build ./public/build
RUN php artisan config:cache && php artisan route:cache
USER www-data
EXPOSE 9000
CMD ["php-fpm"]
