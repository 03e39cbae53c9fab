"""LeNet-5 as it is, in numba's simulator: two training steps are those of the CPU. It takes the simulator most of a
minute, so this is one test."""

from __future__ import annotations

import numpy as np
from layouts import normal

import fastconv
from fastconv import functional as F
from fastconv import models, optim
from fastconv.backends.cuda import launch, tiles
from fastconv.backends.cuda.problem import Tile


def trained(place: str) -> tuple[list[float], dict]:
    fastconv.manual_seed(0)
    model = models.create("lenet5").to(place)
    stepper = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(2):
        x = fastconv.tensor(normal(("lenet", step), (1, 1, 28, 28), "float32"), device=place)
        loss = F.cross_entropy(model(x), np.array([step + 3]))
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def test_two_steps_of_lenet_are_those_of_the_cpu(cuda, monkeypatch):
    if launch.machine().simulated:  # fewer threads with more to do each are faster there
        monkeypatch.setattr(tiles, "_SIMULATED", ((Tile(16, 16, 8, 4, 4), 1.0),))
    (losses, state), (wanted, expected) = trained("cuda"), trained("cpu")
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
