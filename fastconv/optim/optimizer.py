"""Optimisers: parameter groups and state, as torch.optim's; the arithmetic is one backend call a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import backends
from ..arguments import number
from ..errors import ArgumentError, CheckpointError, ShapeError, mismatch
from ..tensor import Tensor, copy_aligned, empty_aligned

_NOTHING: Mapping[str, Any] = {}  # the state of a parameter that has none


class Optimizer:
    """Base: holds ``param_groups`` (dicts with 'params' and options) and ``state`` (a dict for each parameter)."""

    _needed: frozenset[str] = frozenset()  # what the state of a parameter consists of, where it has one
    _arrays: frozenset[str] = frozenset()  # what of it is an array, or, if not needed, perhaps None

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        entries = _listed(params)
        if not entries:
            raise ArgumentError(mismatch(self._name, "at least one parameter", "none"))
        for group in entries if isinstance(entries[0], Mapping) else [{"params": entries}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own; those left out are the constructor's.

        Raises:
            ArgumentError: options that are not known or out of range; what is no Tensor, is there already, or is the
                result of an operation, which no gradient reaches.
        """
        if not isinstance(group, Mapping):
            raise ArgumentError(mismatch(self._name, "groups of 'params' and options", type(group).__name__))
        unknown = set(group) - {"params", *self.defaults}
        if unknown or "params" not in group:
            known = f"a group of 'params' and of {sorted(self.defaults)}"
            raise ArgumentError(mismatch(self._name, known, sorted(unknown) or "no 'params'"))
        params = _listed(group["params"])
        seen = {id(p) for old in self.param_groups for p in old["params"]}
        for param in params:
            if not isinstance(param, Tensor):
                raise ArgumentError(mismatch(self._name, "params to be Tensors", type(param).__name__))
            if param._node is not None:
                raise ArgumentError(mismatch(self._name, "params that no operation made", "the result of one"))
            if id(param) in seen:
                raise ArgumentError(mismatch(self._name, "each parameter once", "one twice"))
            seen.add(id(param))
        new = {**self.defaults, **group, "params": params}
        self._check(new)
        self.param_groups.append(new)

    def _check(self, group: dict[str, Any]) -> None:
        for option in ("lr", "weight_decay", "momentum", "eps"):
            number(self._name, option, group.get(option, 0), 0)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient, in place."""
        for group in self.param_groups:
            ready = [param for param in group["params"] if param.grad is not None]
            arrays, grads = [param.data for param in ready], [param.grad for param in ready]
            phases = self._phases(ready)
            backend = backends.for_numpy()
            if phases and phases.count(phases[0]) == len(phases) and backend.steppable(arrays, grads):
                self._update(backend, group, ready, phases[0], arrays, grads)  # the usual case: all in one call
                continue
            for param in ready:
                self._check_gradient(param)
            for alike, phase in _alike(ready, phases):
                backend, arrays, grads = backends.of(alike[0].data), [p.data for p in alike], [p.grad for p in alike]
                self._update(backend, group, alike, phase, arrays, grads)

    def _check_gradient(self, param: Tensor) -> None:
        if isinstance(param.data, np.ndarray) and not param.data.flags.writeable:
            raise ArgumentError(mismatch(f"{self._name}.step", "params that can be written to", "a read-only one"))
        if type(param.grad) is not type(param.data) and not (
            isinstance(param.grad, np.ndarray) and isinstance(param.data, np.ndarray)
        ):
            expected = f"a gradient of its parameter's kind, {type(param.data).__name__}"
            raise ArgumentError(mismatch(f"{self._name}.step", expected, type(param.grad).__name__))
        if param.grad.shape != param.data.shape or param.grad.dtype != param.data.dtype:
            expected = f"a gradient like its parameter, {param.data.dtype} {param.shape}"
            raise ShapeError(mismatch(f"{self._name}.step", expected, f"{param.grad.dtype} {param.grad.shape}"))

    def _phases(self, params: list[Tensor]) -> list[Any]:
        """Return, for each parameter, what must agree among the parameters of one ``_update``."""
        raise NotImplementedError

    def _update(
        self, backend: backends.Backend, group: dict[str, Any], params: list[Tensor], phase: Any, arrays: list[Any],
        grads: list[Any],
    ) -> None:  # fmt: skip
        """Update parameters of one device and phase, given with their arrays and gradients."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Return torch's structure: ``state`` (copied arrays and numbers, by parameter number) and ``param_groups``."""
        number = {param: i for i, param in enumerate(p for group in self.param_groups for p in group["params"])}
        state = {
            number[param]: {key: _copied(value) for key, value in entries.items()}
            for param, entries in self.state.items()
        }
        groups = [{**group, "params": [number[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state that ``state_dict`` returned, for parameters of the same shapes in the same order.

        Raises:
            CheckpointError: groups or shapes that differ; nothing has changed then.
        """
        op = f"{self._name}.load_state_dict"
        try:
            saved = [dict(group) for group in state_dict["param_groups"]]
            entries = {int(number): dict(values) for number, values in state_dict["state"].items()}
            sizes = [len(group["params"]) for group in saved]
        except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(mismatch(op, "'state' and 'param_groups'", repr(error))) from None
        own = [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise CheckpointError(mismatch(op, f"groups of {own} parameters", sizes))
        for old, new in zip(self.param_groups, saved, strict=True):
            unknown = [name for name in ("amsgrad", "maximize") if new.get(name)]  # torch's, that change the steps
            if unknown:
                raise CheckpointError(mismatch(op, f"options among {sorted(self.defaults)}", unknown))
            try:
                self._check({**old, **new})
            except ArgumentError as error:
                raise CheckpointError(mismatch(op, "options in range", error)) from None
        order = [entry for group in saved for entry in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        state = {}
        for entry, param in zip(order, params, strict=True):
            if entry in entries:
                state[param] = {
                    key: _like(op, key, value, param, key in self._arrays)
                    for key, value in entries[entry].items()
                    if value is not None or key in self._needed
                }
                if not self._needed <= set(state[param]):
                    raise CheckpointError(mismatch(op, f"a state of {sorted(self._needed)}", sorted(state[param])))
        self.state = state
        for group, values in zip(self.param_groups, saved, strict=True):
            group.update({key: value for key, value in values.items() if key != "params"})


def _listed(params: Any) -> list[Any]:
    """Return an iterable, or one value, as a list."""
    return list(params) if isinstance(params, Iterable) and not isinstance(params, Tensor | np.ndarray) else [params]


def _alike(params: list[Tensor], phases: list[Any]) -> list[tuple[list[Tensor], Any]]:
    """Return the parameters by device and phase: (those that agree, their phase)."""
    groups: dict[Any, tuple[list[Tensor], Any]] = {}
    for param, phase in zip(params, phases, strict=True):
        groups.setdefault((backends.of(param.data).name, phase), ([], phase))[0].append(param)
    return list(groups.values())


def _zeros_like(param: Tensor) -> Any:
    zeros = empty_aligned(param.shape, param.dtype)
    zeros[...] = 0
    return backends.of(param.data).from_numpy(zeros)


def _copied(value: Any) -> Any:
    return value if isinstance(value, (int, float, bool, type(None))) else np.array(Tensor(value).numpy(), order="C")


def _number(value: Any) -> float:
    """Return a number, or an array of one, as a float: NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _like(op: str, key: str, value: Any, param: Tensor, is_array: bool) -> Any:
    """Return a saved entry as ``param``'s state: a number, or an array of its shape on its device."""
    if key == "step":
        steps = _number(value)
        if not (steps.is_integer() and steps >= 0):
            raise CheckpointError(mismatch(op, "step to be a whole number, at least 0", repr(value)))
        return int(steps)
    try:
        array = np.asarray(value)
    except ValueError:
        raise CheckpointError(mismatch(op, f"{key} to be an array", "a ragged sequence")) from None
    if array.dtype.kind not in "fiu":
        raise CheckpointError(mismatch(op, f"{key} to be numbers", "None" if value is None else array.dtype))
    if array.ndim == 0 and param.ndim and not is_array:
        return array.item()
    array = copy_aligned(array, param.dtype)
    if array.shape != param.shape:
        raise CheckpointError(mismatch(op, f"{key} of shape {param.shape}", f"shape {array.shape}"))
    return backends.of(param.data).from_numpy(array)


class SGD(Optimizer):
    """Gradient descent with momentum, as ``torch.optim.SGD`` (Sutskever et al. 2013).

    ``g += weight_decay * p; buffer = momentum * buffer + (1 - dampening) * g; p -= lr * buffer`` (``nesterov``:
    ``p -= lr * (g + momentum * buffer)``); the first buffer is g.

    >>> p = Tensor(np.array([1.0]), requires_grad=True)
    >>> p.grad = np.array([0.5])
    >>> SGD([p], lr=0.1).step()
    >>> p.data
    array([0.95])
    """

    _arrays = frozenset({"momentum_buffer"})

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": nesterov})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        number(self._name, "dampening", group["dampening"])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError(mismatch("SGD", "momentum > 0 and dampening 0 with nesterov",
                                         f"{group['momentum']} and {group['dampening']}"))  # fmt: skip

    def _phases(self, params: list[Tensor]) -> list[bool]:
        state = self.state
        return [state.get(param, _NOTHING).get("momentum_buffer") is None for param in params]

    def _update(
        self, backend: backends.Backend, group: dict[str, Any], params: list[Tensor], first: bool, arrays: list[Any],
        grads: list[Any],
    ) -> None:  # fmt: skip
        buffers: Sequence[Any] = [None] * len(params)
        if group["momentum"]:
            if first:
                for param in params:
                    self.state[param] = {"momentum_buffer": _zeros_like(param)}
            buffers = [self.state[param]["momentum_buffer"] for param in params]
        backend.sgd_step(
            arrays, grads, buffers, lr=group["lr"], momentum=group["momentum"], dampening=group["dampening"],
            weight_decay=group["weight_decay"], nesterov=group["nesterov"], first=first,
        )  # fmt: skip


class Adam(Optimizer):
    """Adam, as ``torch.optim.Adam`` (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980)."""

    decoupled = False  # whether weight decay bypasses the moments
    _needed = frozenset({"step", "exp_avg", "exp_avg_sq"})
    _arrays = frozenset({"exp_avg", "exp_avg_sq"})

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        betas = group["betas"]
        pair = isinstance(betas, Sequence) and not isinstance(betas, str) and len(betas) == 2
        if not pair or not all(number(self._name, "betas", beta, 0) < 1 for beta in betas):
            raise ArgumentError(mismatch(self._name, "two betas in [0, 1)", repr(betas)))

    def _phases(self, params: list[Tensor]) -> list[int]:
        state = self.state
        return [state.get(param, _NOTHING).get("step", 0) for param in params]

    def _update(
        self, backend: backends.Backend, group: dict[str, Any], params: list[Tensor], phase: int, arrays: list[Any],
        grads: list[Any],
    ) -> None:  # fmt: skip
        step = int(phase) + 1
        if step == 1:
            for param in params:
                self.state[param] = {"step": 0, "exp_avg": _zeros_like(param), "exp_avg_sq": _zeros_like(param)}
        states = [self.state[param] for param in params]
        for state in states:
            state["step"] = step
        backend.adam_step(
            arrays, grads, [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states],
            step=step, lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
            weight_decay=group["weight_decay"], decoupled=self.decoupled,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101)."""

    decoupled = True

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)
