FROM node:22 AS build
WORKDIR /site
COPY . .
RUN npm ci && npm run build

FROM nginx:1.27-alpine
COPY <<'EOF' /etc/nginx/conf.d/default.conf
server {
    listen 8080;
    root /usr/share/nginx/html;

    location / {
        try_files $uri $uri/ /index.html;
        add_header Cache-Control "no-cache";
    }
    location /assets/ {
        expires 1y;
    }
}
EOF
RUN rm -rf /usr/share/nginx/html/*
COPY --from=build /site/dist /usr/share/nginx/html
EXPOSE 8080
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
