# Three images from one file: `docker build --target server .`, `--target operator` and `--target store`.
#
# The first two hold Python, its libraries and one half of OnceServe, the third Debian's Redis: no shell, no package
# manager, no pip. Python is taken out of BASE, which may be any Debian with Python 3.11 or newer and its venv module.
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS base
ENV LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1


# Bytecode that never looks at its source starts fast on a read-only file system, whatever becomes of the files' times.
FROM base AS rootfs
COPY hack/images/rootfs.py /
RUN python3 /rootfs.py /rootfs \
    && python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash -s /rootfs /rootfs/usr


FROM base AS tools
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
RUN python3 -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --disable-pip-version-check --quiet uv==0.13.8 hatchling==1.33.0
WORKDIR /build


# By itself, so that a change of pyproject.toml that changes no dependency installs none anew.
FROM tools AS requirements
COPY pyproject.toml uv.lock ./
RUN export="/tools/bin/uv export --quiet --frozen --no-dev --no-emit-project --no-header --no-annotate" \
    && $export --extra operator --output-file /requirements/operator.txt \
    && $export --extra serving --extra redis --extra postgresql --output-file /requirements/serving.txt \
    && $export --extra serving --extra redis --extra postgresql --group wheel --output-file /requirements/wheel.txt


FROM tools AS environment
RUN python3 -m venv --without-pip /opt/onceserve


FROM environment AS operator-dependencies
COPY --from=requirements /requirements/operator.txt .
RUN --mount=type=cache,target=/root/.cache/uv \
    /tools/bin/uv pip install --quiet --python /opt/onceserve --require-hashes --no-deps --requirements operator.txt
# The operator speaks asyncio only: of the two clients generated from the API, the other's calls go. What remains of that
# generated code is loaded class by class, hardly any of it, and not worth its bytecode.
RUN cd /opt/onceserve/lib/python3*/site-packages \
    && rm -rf kubernetes/client/api \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . \( -name '*_test.py' -o -name 'test_*.py' -o -name '*.pyi' \) -delete \
    && find /opt/onceserve/bin -type f -delete \
    && rm -r /opt/onceserve/include /opt/onceserve/.lock \
    && python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash -x '/client/(api|models)/' /opt/onceserve


FROM environment AS serving-dependencies
COPY --from=requirements /requirements/serving.txt .
RUN --mount=type=cache,target=/root/.cache/uv \
    /tools/bin/uv pip install --quiet --python /opt/onceserve --require-hashes --no-deps --requirements serving.txt
# Running a model takes the extension module, which holds all of onnxruntime: the library beside it is for programs in C,
# the other packages prepare models.
RUN cd /opt/onceserve/lib/python3*/site-packages \
    && rm -rf onnxruntime/capi/libonnxruntime.so.* \
      onnxruntime/backend onnxruntime/datasets onnxruntime/quantization onnxruntime/tools onnxruntime/transformers \
      numpy/_core/include numpy/_core/lib numpy/_pyinstaller numpy/distutils numpy/f2py \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . \( -name '*_tests.*.so' -o -name '*.pyi' \) -delete \
    && find /opt/onceserve/bin -type f -delete \
    && rm -r /opt/onceserve/include /opt/onceserve/.lock \
    && python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash /opt/onceserve


# Compiles what every request passes through, with the libraries at hand that it uses: what a class inherits from decides
# how it is compiled. Headers come with a Python that was built from source; Debian's has a package of them.
FROM tools AS compiler
RUN apt-get update -qq \
    && apt-get install -qq --no-install-recommends gcc libc6-dev \
      $(test -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || echo python3-dev) \
      >/dev/null
COPY --from=requirements /requirements/wheel.txt .
RUN --mount=type=cache,target=/root/.cache/uv \
    python3 -m venv --without-pip /compiler \
    && /tools/bin/uv pip install --quiet --python /compiler --require-hashes --no-deps --requirements wheel.txt


FROM compiler AS wheel
COPY pyproject.toml LICENSE ./
COPY hack/images/hook.py hack/images/hook.py
COPY serving serving
RUN touch README.md \
    && HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 /compiler/bin/python -m hatchling build --target wheel


# Only the half's own files, so that this layer alone changes with the sources. The other half's command goes: it would
# not find its package. So does what tells when and where the wheel was: equal sources give equal layers.
FROM operator-dependencies AS operator-files
COPY pyproject.toml LICENSE ./
COPY serving/onceserve_contract serving/onceserve_contract
COPY operator operator
RUN touch README.md \
    && /tools/bin/hatchling build --target wheel \
    && /tools/bin/uv pip install --quiet --python /opt/onceserve --prefix /files/opt/onceserve --no-deps --offline dist/*.whl \
    && cd /files/opt/onceserve \
    && rm .lock bin/onceserve lib/python3*/site-packages/*/direct_url.json lib/python3*/site-packages/*/uv_cache.json \
    && sed -i '/direct_url.json,/d; /uv_cache.json,/d' lib/python3*/site-packages/*/RECORD \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /files /files


FROM serving-dependencies AS serving-files
COPY --from=wheel /build/dist dist
RUN /tools/bin/uv pip install --quiet --python /opt/onceserve --prefix /files/opt/onceserve --no-deps --offline dist/*.whl \
    && cd /files/opt/onceserve \
    && rm .lock bin/onceserve-operator lib/python3*/site-packages/*/direct_url.json lib/python3*/site-packages/*/uv_cache.json \
    && sed -i '/direct_url.json,/d; /uv_cache.json,/d' lib/python3*/site-packages/*/RECORD \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /files /files


FROM scratch AS final
COPY --from=rootfs /rootfs /
COPY --from=base /etc/ssl/certs /etc/ssl/certs
ENV PATH=/opt/onceserve/bin:/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532


FROM final AS operator
COPY --from=operator-dependencies /opt/onceserve /opt/onceserve
COPY --from=operator-files /files /
ENTRYPOINT ["onceserve-operator"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="OnceServe operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"


FROM final AS server
ENV ORT_DISABLE_TELEMETRY=1
COPY --from=serving-dependencies /opt/onceserve /opt/onceserve
COPY --from=serving-files /files /
ENTRYPOINT ["onceserve"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="OnceServe model server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"


FROM base AS store-rootfs
RUN apt-get update -qq \
    && apt-get install -qq --no-install-recommends redis-server >/dev/null
COPY hack/images/rootfs.py /
RUN python3 /rootfs.py /rootfs redis-server redis-cli


FROM scratch AS store
COPY --from=store-rootfs /rootfs /
ENV PATH=/usr/bin \
    LANG=C.UTF-8
USER 65532:65532
ENTRYPOINT ["redis-server"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="OnceServe store" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="BSD-3-Clause"
