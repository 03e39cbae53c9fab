"""JAX's side of bench.lenet_step: the same network, loss and SGD as one jit-compiled function, where JAX is installed.

Its step is a function of parameters and momenta, which it may overwrite (donated), as the others overwrite theirs. JAX
has one pool of threads for a process, as wide as the processors that it may use, and no option for fewer.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

MISSING = "no JAX: not compared with it (pip install jax)"


def available() -> bool:
    return find_spec("jax") is not None


class Jax:
    """The tutorial network's step; weights as the other sides have them: (O, I, H, W) and (O, I)."""

    def __init__(
        self, x: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray], lr: float, momentum: float
    ) -> None:
        import jax
        from jax import numpy as jnp

        def pool(a: Any) -> Any:
            window = (1, 1, 2, 2)
            return jax.lax.reduce_window(a, -jnp.inf, jax.lax.max, window, window, "VALID")

        def conv(a: Any, name: str, p: dict[str, Any]) -> Any:
            layout = ("NCHW", "OIHW", "NCHW")
            y = jax.lax.conv_general_dilated(a, p[f"{name}.weight"], (1, 1), "VALID", dimension_numbers=layout)
            return jax.nn.relu(y + p[f"{name}.bias"][:, None, None])

        def loss_of(p: dict[str, Any], x: Any, labels: Any) -> Any:
            a = pool(conv(pool(conv(x, "c1", p)), "c3", p)).reshape(len(x), -1)
            a = jax.nn.relu(a @ p["f5.weight"].T + p["f5.bias"])
            logits = jax.nn.log_softmax(a @ p["f6.weight"].T + p["f6.bias"])
            return -jnp.take_along_axis(logits, labels[:, None], axis=1).mean()

        def step(p: dict[str, Any], v: dict[str, Any], x: Any, labels: Any) -> tuple[Any, ...]:
            loss, d = jax.value_and_grad(loss_of)(p, x, labels)
            v = {name: momentum * v[name] + d[name] for name in v}
            return loss, d, {name: p[name] - lr * v[name] for name in p}, v

        self.x, self.labels = jnp.asarray(x), jnp.asarray(labels)
        self.p = {name: jnp.asarray(value) for name, value in weights.items()}
        self.v = {name: jnp.zeros_like(value) for name, value in self.p.items()}
        self.d: dict[str, Any] = {}
        self._checked = jax.jit(step)
        self._timed = jax.jit(lambda *a: (lambda loss, d, p, v: (loss, p, v))(*step(*a)), donate_argnums=(0, 1))

    def check(self) -> Any:
        """One step that keeps the gradients, for the comparison."""
        loss, self.d, self.p, self.v = self._checked(self.p, self.v, self.x, self.labels)
        return loss

    def step(self) -> Any:
        loss, self.p, self.v = self._timed(self.p, self.v, self.x, self.labels)
        return loss.block_until_ready()

    def arrays(self) -> dict[str, np.ndarray]:
        gradients = {f"d{name}": np.asarray(value) for name, value in self.d.items()}
        return gradients | {name: np.asarray(value) for name, value in self.p.items()}
