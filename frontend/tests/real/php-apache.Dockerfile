FROM php:8.2-apache

ENV APACHE_DOCUMENT_ROOT=/var/www/app/public

RUN set -ex; \
    \
    apt-get update; \
    apt-get install -y --no-install-recommends libfreetype6-dev libjpeg-dev libpng-dev; \
    docker-php-ext-configure gd --with-freetype --with-jpeg; \
    docker-php-ext-install gd mysqli; \
    \
    # Keep what the extensions need, and no more.
    apt-mark auto '.*' > /dev/null; \
    find /usr/local -type f -executable -exec ldd '{}' ';' \
        | awk '/=>/ { print $(NF-1) }' \
        | sort -u \
        | xargs -r dpkg-query --search \
        | cut -d: -f1 \
        | sort -u \
        | xargs -r apt-mark manual; \
    apt-get purge -y --auto-remove -o APT::AutoRemove::RecommendsImportant=false; \
    rm -rf /var/lib/apt/lists/*

RUN a2enmod rewrite expires headers \
 && sed -ri -e 's!/var/www/html!${APACHE_DOCUMENT_ROOT}!g' /etc/apache2/sites-available/*.conf

COPY ["docker/virtual host.conf", "/etc/apache2/sites-enabled/000-default.conf"]
COPY . /var/www/app/
VOLUME /var/www/app/uploads /var/log/apache2
HEALTHCHECK --timeout=5s CMD ["curl", "-fsS", "http://localhost/ping"]
EXPOSE 80 443
