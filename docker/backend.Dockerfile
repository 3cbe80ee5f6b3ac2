# The backend. Build arguments:
#   MODEL=glide    OpenAI's checkpoints inside, fetched from OpenAI (3.1 GB, kept as 1.6 GB); else the mini model alone
#   TORCH_INDEX    index to take torch from, empty for PyPI's: PyTorch has one per CUDA version and one for CPUs
#   PYTHON_IMAGE   the base, by digest for instance
#   REVISION       what it is built from
ARG MODEL=mini
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
ARG TORCH_INDEX
WORKDIR /build
COPY constraints.txt docker/backend-requirements.txt ./
ENV PIP_CACHE_DIR=/pip-cache
RUN --mount=type=cache,target=/pip-cache \
    python -m venv --without-pip /opt/venv \
    && if [ -n "$TORCH_INDEX" ]; then \
        pip --python /opt/venv/bin/python install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"; \
    fi \
    && pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement backend-requirements.txt \
    && find /opt/venv \( -type d \( -name tests -o -path '*/torch/test' -o -path '*/torch/include' \) \
        -o -path '*/torch/bin/*[Tt]est*' \) -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS code
WORKDIR /app
COPY LICENSE ./
COPY backend_gpu backend_gpu
RUN python -m compileall -q .

# Empty, unless `docker build --build-context checkpoints=FOLDER` names a folder that has the .pt files already.
FROM scratch AS checkpoints

FROM dependencies AS weights
COPY backend_gpu/__init__.py backend_gpu/download.py backend_gpu/errors.py backend_gpu/files.py backend_gpu/
COPY backend_gpu/engine/__init__.py backend_gpu/engine/published.py backend_gpu/engine/
COPY backend_gpu/glide backend_gpu/glide
# float16 serves every device: which one it will be is not known here.
RUN --mount=type=bind,from=checkpoints,target=/checkpoints \
    mkdir /models \
    && find /checkpoints -name '*.pt' -exec ln -s -t /models {} + \
    && /opt/venv/bin/python -c "import pathlib, torch; from backend_gpu.engine.published import open_published; \
[open_published(kind, pathlib.Path('/models'), torch.float16) for kind in ('base', 'upsample')]" \
    && find /models -not -name '*.safetensors' -type f,l -delete

FROM ${PYTHON_IMAGE} AS runtime-mini
RUN useradd --uid 10001 --no-create-home --home-dir /tmp kotoe \
    && mkdir -p /data/gallery \
    && chown -R kotoe:kotoe /data
COPY --from=dependencies /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    BACKEND_HOST=0.0.0.0 BACKEND_PORT=8000 BACKEND_DATA_DIR=/data

FROM runtime-mini AS runtime-glide
COPY --from=weights /models /models
ENV BACKEND_MODEL=glide BACKEND_MODELS_DIR=/models

FROM runtime-${MODEL}
WORKDIR /app
COPY --from=code /app .
USER kotoe
VOLUME /data
EXPOSE 8000
# Healthy is what has drawn; on a CPU it takes the published model a minute or two to get there.
HEALTHCHECK --interval=5s --timeout=5s --start-period=3m CMD ["python", "-c", "\
import http.client, os; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['BACKEND_PORT']), timeout=4); \
connection.request('GET', '/readyz'); \
raise SystemExit(connection.getresponse().status != 200)"]
CMD ["python", "-m", "backend_gpu"]
ARG REVISION
LABEL org.opencontainers.image.title="Kotoe: the backend" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.revision="$REVISION"
