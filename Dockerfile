# syntax=docker/dockerfile:1
FROM python:3.13-slim-bookworm AS build

WORKDIR /src
COPY deploy/requirements.txt deploy/requirements-build.txt deploy/
RUN python -m venv /opt/exporter \
 && python -m pip install --no-cache-dir --require-hashes -r deploy/requirements-build.txt \
 && /opt/exporter/bin/python -m pip install --no-cache-dir --require-hashes -r deploy/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
ARG REVISION=
ARG CREATED=
RUN printf '{"revision": "%s", "date": "%s"}\n' "$REVISION" "$CREATED" > exporter/build.json \
 && python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/exporter/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
 && /opt/exporter/bin/python -m pip uninstall --yes pip \
 && /opt/exporter/bin/python -m compileall -q /opt/exporter/lib


FROM python:3.13-slim-bookworm

COPY --from=build /opt/exporter /opt/exporter
ENV PATH=/opt/exporter/bin:$PATH \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# For `state.directory`: a new named volume takes its owner from here.
RUN install --directory --mode=0700 --owner=65532 --group=65532 /var/lib/datarobot-exporter

WORKDIR /etc/datarobot-exporter
USER 65532:65532
EXPOSE 10072
STOPSIGNAL SIGTERM
# It reads the configuration as the exporter does, except flags: prefer environment variables.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["datarobot-exporter", "health"]
ENTRYPOINT ["datarobot-exporter"]

ARG VERSION=dev
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="datarobot-exporter" \
      org.opencontainers.image.description="Prometheus exporter for DataRobot async tasks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE"
