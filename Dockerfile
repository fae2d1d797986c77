# One image for every service, the migrations included; docker-compose.yml says which command each container runs.

FROM python:3.11-slim-bookworm AS build
# what the services import and nothing else: no test tools, no embedded stores
COPY requirements-runtime.lock /build/
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /build/requirements-runtime.lock \
    && /opt/venv/bin/python -m compileall -q /opt/venv/lib \
    && /opt/venv/bin/pip uninstall --yes --quiet pip setuptools

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin usage
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY alembic.ini ./
COPY migrations ./migrations
COPY shared ./shared
COPY services ./services
# compiled here, because the services run with a read-only file system
RUN python -m compileall -q services shared migrations
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8000 8001 8002 8003
CMD ["python", "-m", "services.api_gateway"]
