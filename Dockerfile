# syntax=docker/dockerfile:1
# The service on a CPU: docs/serve.md, "Docker". Nobody has built it yet: no image can be built where it was written.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/bloomz
ENV PATH=/opt/bloomz/bin:$PATH
COPY constraints.txt ./
# From its CPU index: the default build brings gigabytes of CUDA.
RUN pip install --no-cache-dir -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch
COPY pyproject.toml README.md LICENSE ./
COPY components components
COPY pipeline pipeline
RUN pip install --no-cache-dir -c constraints.txt ".[serve,office]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data --no-create-home bloomz \
    && install --directory --owner=bloomz --group=bloomz --mode=0750 /data
COPY --from=build /opt/bloomz /opt/bloomz
ENV PATH=/opt/bloomz/bin:$PATH \
    HF_HOME=/data/huggingface \
    HAYSTACK_TELEMETRY_ENABLED=False \
    PYTHONUNBUFFERED=1
USER bloomz
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["bloomz"]
CMD ["serve", "--store", "/data/store", "--host", "0.0.0.0", "--port", "8000"]
