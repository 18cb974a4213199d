# The base image of many services: a service's own file is one FROM.
FROM python:3.12-alpine

WORKDIR /usr/src/app

ONBUILD ARG REQUIREMENTS=requirements.txt
ONBUILD COPY ${REQUIREMENTS} /usr/src/app/
ONBUILD RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -r "$REQUIREMENTS"
ONBUILD COPY . /usr/src/app
ONBUILD RUN <<EOF
python -m compileall .
python -m unittest discover
EOF
ONBUILD EXPOSE 8000
ONBUILD USER nobody
CMD ["python", "-m", "service"]
