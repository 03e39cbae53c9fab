"""A device for the tests of the CUDA backend alone: a GPU with --gpu, else numba's simulator where it is asked for."""

from __future__ import annotations

import pytest

from fastconv import backends, config


@pytest.fixture
def cuda(request: pytest.FixtureRequest) -> backends.Backend:
    if not (config.cuda_simulated() or request.config.getoption("--gpu")):
        pytest.skip("no GPU asked for: NUMBA_ENABLE_CUDASIM=1 simulates one, --gpu takes one")
    return backends.get("cuda")


@pytest.fixture
def simulated(cuda: backends.Backend) -> backends.Backend:
    if not config.cuda_simulated():
        pytest.skip("in the simulator alone: NUMBA_ENABLE_CUDASIM=1")
    return cuda
