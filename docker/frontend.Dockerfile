# The page. Build arguments:
#   PYTHON_IMAGE   the base, by digest for instance
#   REVISION       what it is built from
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
COPY constraints.txt docker/frontend-requirements.txt ./
ENV PIP_CACHE_DIR=/pip-cache
RUN --mount=type=cache,target=/pip-cache \
    python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement frontend-requirements.txt \
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS code
WORKDIR /app
COPY LICENSE ./
COPY frontend_streamlit frontend_streamlit
# What the offline translator shares with the mini model.
COPY backend_gpu/mini/concepts.tsv backend_gpu/mini/grammar.toml backend_gpu/mini/
RUN python -m compileall -q .

FROM ${PYTHON_IMAGE}
# The uid is the backend's: on one machine the page deletes pictures that the backend wrote.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp kotoe \
    && mkdir -p /data/gallery \
    && chown -R kotoe:kotoe /data
COPY --from=dependencies /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    FRONTEND_HOST=0.0.0.0 FRONTEND_GALLERY=/data/gallery
# Its greeting asks a server outside for this machine's address first, and waits where there is no way out.
ENV STREAMLIT_LOGGER_HIDE_WELCOME_MESSAGE=true
WORKDIR /app
COPY --from=code /app .
USER kotoe
EXPOSE 8501
HEALTHCHECK --interval=5s --timeout=5s --start-period=1m CMD ["python", "-c", "\
import http.client, os; \
port = os.environ.get('FRONTEND_PORT') or os.environ.get('PORT') or '8501'; \
connection = http.client.HTTPConnection('127.0.0.1', int(port), timeout=4); \
connection.request('GET', '/_stcore/health'); \
raise SystemExit(connection.getresponse().status != 200)"]
# PORT is how Cloud Run says where to listen.
CMD ["sh", "-c", "FRONTEND_PORT=${FRONTEND_PORT:-${PORT:-8501}} exec python -m frontend_streamlit"]
ARG REVISION
LABEL org.opencontainers.image.title="Kotoe: the page" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.revision="$REVISION"
