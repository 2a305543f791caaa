# syntax=docker/dockerfile:1
FROM python:3.13-slim-bookworm AS build

WORKDIR /src
COPY deploy/requirements.txt deploy/requirements-build.txt deploy/
RUN python -m venv /opt/exporter \
 && python -m pip install --no-cache-dir --require-hashes -r deploy/requirements-build.txt \
 && /opt/exporter/bin/python -m pip install --no-cache-dir --require-hashes -r deploy/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/exporter/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl \
 && /opt/exporter/bin/python -m pip uninstall --yes pip \
 && /opt/exporter/bin/python -m compileall -q /opt/exporter/lib


FROM python:3.13-slim-bookworm

LABEL org.opencontainers.image.title="datarobot-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the async tasks of DataRobot" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/exporter /opt/exporter
ENV PATH=/opt/exporter/bin:$PATH \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /etc/datarobot-exporter
USER 65532:65532
EXPOSE 10072
STOPSIGNAL SIGTERM
# By https where http is not served. Elsewhere than at port 10072: `docker run --health-cmd`.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s \
  CMD ["sh", "-c", "for scheme in http https; do no_proxy=127.0.0.1 python -c \"import ssl, urllib.request; urllib.request.urlopen('$scheme://127.0.0.1:10072/-/healthy', timeout=4, context=ssl._create_unverified_context())\" && exit; done; exit 1"]
ENTRYPOINT ["datarobot-exporter"]
