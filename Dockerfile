# Builds the wheel, tests it, and installs it into a clean image: `docker build -t multipy-actors .`
#
# `--target build` stops at the wheel, in /source/dist. The official Python images have a shared libpython, of which
# interpreters are made. The tests want all that CI has, torch included; PIP_EXTRA_INDEX_URL as a build argument gives
# them PyTorch's CPU wheels, which are smaller than PyPI's.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends doctest-dev g++ git make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN make wheel

FROM build AS test
ARG PIP_EXTRA_INDEX_URL=
RUN make test && touch /tested

FROM python:${PYTHON}-slim-bookworm
# From the stage with the tests, so that it is run.
COPY --from=test /tested /tested
COPY --from=test /source/dist/ /wheels/
RUN pip install --no-cache-dir /wheels/*.whl && rm -rf /wheels /tested
RUN python -c "import math, multipy_actors as m; p = m.Pool(2); print(p.submit(math.sqrt, 4).result()); p.shutdown()"
CMD ["python", "-m", "multipy_actors", "doctor"]
