"""The contract of a device: activations, losses, arithmetic, what moves elements about, optimisers."""

from __future__ import annotations

from collections.abc import Sequence

from .arrays import Array, Arrays


class Elements(Arrays):
    """Primitives on each element by itself, along one axis, or on whole arrays."""

    # ------------------------------------------------------------------------------------- activations

    def relu_forward(self, x: Array) -> Array:
        """max(x, 0); NaN stays NaN."""
        raise self._missing("relu_forward")

    def relu_backward(self, dy: Array, y: Array) -> Array:
        """0 where the output y <= 0 (the subgradient at 0 is 0), else dy: also where y is NaN."""
        raise self._missing("relu_backward")

    def leaky_relu_forward(self, x: Array, negative_slope: float) -> Array:
        """x where x > 0, else negative_slope * x."""
        raise self._missing("leaky_relu_forward")

    def leaky_relu_backward(self, dy: Array, x: Array, negative_slope: float) -> Array:
        """dy where x > 0, else negative_slope * dy."""
        raise self._missing("leaky_relu_backward")

    def sigmoid_forward(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), without overflow."""
        raise self._missing("sigmoid_forward")

    def sigmoid_backward(self, dy: Array, y: Array) -> Array:
        """dy * y * (1 - y)."""
        raise self._missing("sigmoid_backward")

    def tanh_forward(self, x: Array) -> Array:
        """tanh(x)."""
        raise self._missing("tanh_forward")

    def tanh_backward(self, dy: Array, y: Array) -> Array:
        """dy * (1 - y * y)."""
        raise self._missing("tanh_backward")

    def pointwise_forward(self, kind: str, x: Array, a: float = 0.0, b: float = 0.0) -> Array:
        """A function of each element by itself, ``kind`` with its parameters a and b:

        elu (x, or below 0 a * (exp(x / b) - 1)), gelu, gelu_tanh, silu, mish, hardswish, hardsigmoid (a * x + b within
        [0, 1]), softplus (log(1 + exp(a * x)) / a), softsign, clip and hardtanh (within [a, b]), exp, log, sqrt, abs,
        reciprocal, erf, power (x ** a), floor, ceil, round (halves to even), sign, sin, cos.
        """
        raise self._missing("pointwise_forward")

    def pointwise_backward(self, kind: str, dy: Array, x: Array, a: float = 0.0, b: float = 0.0) -> Array:
        """dy times the slope at x. Where two slopes meet: abs 0, elu the left one, clip 1, hardtanh and hardsigmoid 0,
        hardswish the outer one."""
        raise self._missing("pointwise_backward")

    def softmax_forward(self, x: Array) -> Array:
        """x (N, C, L) -> exp(x - max) / sum over C."""
        raise self._missing("softmax_forward")

    def softmax_backward(self, dy: Array, y: Array) -> Array:
        """dy, y (N, C, L) -> y * (dy - sum(dy * y))."""
        raise self._missing("softmax_backward")

    def log_softmax_forward(self, x: Array) -> Array:
        """x (N, C, L) -> x - max - log(sum(exp(x - max))) over C."""
        raise self._missing("log_softmax_forward")

    def log_softmax_backward(self, dy: Array, y: Array) -> Array:
        """dy, y (N, C, L) -> dy - exp(y) * sum(dy)."""
        raise self._missing("log_softmax_backward")

    # ------------------------------------------------------------------------------------------ losses
    # A loss returns one value a position; reductions are `sum` and a division in functional/loss.py. `dloss` is one
    # value a position, of the loss' shape (it may be broadcast, with zero strides).

    def nll_forward(
        self, log_prob: Array, target: Array, weight: Array | None, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array]:
        """Negative log-likelihood. log_prob (N, C, L), target (N, L) int64, weight (C,) -> loss (N, L), scale (N, L).

        ``loss = (1 - s) * weight[t] * -log_prob[t] + s / C * sum_c(weight[c] * -log_prob[c])``, s the label smoothing;
        ``scale = weight[t]`` is what a weighted mean divides by. Both are 0 where ``target == ignore_index``.
        Other targets were checked to lie in [0, C).
        """
        raise self._missing("nll_forward")

    def nll_backward(
        self, dloss: Array, target: Array, channels: int, weight: Array | None, ignore_index: int,
        label_smoothing: float,
    ) -> Array:  # fmt: skip
        """dloss (N, L) -> dlog_prob (N, C, L)."""
        raise self._missing("nll_backward")

    def cross_entropy_forward(
        self, x: Array, target: Array, weight: Array | None, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array]:
        """``nll_forward`` of ``log_softmax_forward``: x (N, C, L) -> loss (N, L), scale (N, L), log_prob (N, C, L)."""
        raise self._missing("cross_entropy_forward")

    def cross_entropy_backward(
        self, dloss: Array, log_prob: Array, target: Array, weight: Array | None, ignore_index: int,
        label_smoothing: float,
    ) -> Array:  # fmt: skip
        """dloss (N, L), the saved log_prob (N, C, L) -> dx (N, C, L)."""
        raise self._missing("cross_entropy_backward")

    def mse_forward(self, x: Array, target: Array) -> Array:
        """(x - target)^2, elementwise."""
        raise self._missing("mse_forward")

    def mse_backward(self, dloss: Array, x: Array, target: Array) -> Array:
        """2 * dloss * (x - target); the target's gradient is its negative."""
        raise self._missing("mse_backward")

    def bce_with_logits_forward(self, x: Array, target: Array, weight: Array | None, pos_weight: Array | None) -> Array:
        """weight * (pos_weight * target * softplus(-x) + (1 - target) * softplus(x)), elementwise, without overflow.

        ``weight`` and ``pos_weight`` were broadcast to the shape of ``x``.
        """
        raise self._missing("bce_with_logits_forward")

    def bce_with_logits_backward(
        self, dloss: Array, x: Array, target: Array, weight: Array | None, pos_weight: Array | None
    ) -> Array:
        """The gradient with respect to the logits x."""
        raise self._missing("bce_with_logits_backward")

    # ------------------------------------------------------------------------------------------ shapes

    def add(self, a: Array, b: Array) -> Array:
        """a + b with NumPy broadcasting."""
        raise self._missing("add")

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b with NumPy broadcasting."""
        raise self._missing("subtract")

    def multiply(self, a: Array, b: Array) -> Array:
        """a * b with NumPy broadcasting."""
        raise self._missing("multiply")

    def divide(self, a: Array, b: Array) -> Array:
        """a / b with NumPy broadcasting."""
        raise self._missing("divide")

    def power(self, a: Array, b: Array) -> Array:
        """a ** b with NumPy's broadcasting, by the rules of IEEE 754: NaN where a is below 0, unless b is whole."""
        raise self._missing("power")

    def power_slope(self, a: Array, b: Array) -> Array:
        """The derivative of a ** b by a: b * a ** (b - 1), 0 where b is 0."""
        raise self._missing("power_slope")

    def power_exponent_slope(self, a: Array, b: Array) -> Array:
        """The derivative of a ** b by b: a ** b * log(a), 0 where a is 0 and b is not below it."""
        raise self._missing("power_exponent_slope")

    def scale(self, a: Array, factor: float) -> Array:
        """a * factor, the factor rounded to a's dtype first."""
        raise self._missing("scale")

    def sum(self, a: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """The sum over ``axis`` (None: all axes, a 0-d array), added up in an order that the shape decides.

        Where axis 1 alone, or 0 and 1, stay, it may depend on whether channels lie side by side, too.
        """
        raise self._missing("sum")

    def broadcast_to(self, a: Array, shape: Sequence[int]) -> Array:
        """``a`` under NumPy broadcasting: a view with zero strides where the device has them. Never written to."""
        raise self._missing("broadcast_to")

    def reshape(self, a: Array, shape: Sequence[int]) -> Array:
        """The values in logical (C) order under another shape; a view of ``a`` where strides allow."""
        raise self._missing("reshape")

    def permute(self, a: Array, axes: Sequence[int]) -> Array:
        """Axis i is a's axis ``axes[i]``; a view where the device has strides."""
        raise self._missing("permute")

    def maximum(self, a: Array, b: Array) -> Array:
        """The larger of a and b with NumPy broadcasting; NaN where either is."""
        raise self._missing("maximum")

    def extremes(self, a: Array, axis: Sequence[int], largest: bool) -> Array:
        """The largest (or smallest) element over ``axis``, kept as axes of size 1. NaN wins. No axis is empty."""
        raise self._missing("extremes")

    def matches(self, a: Array, best: Array) -> Array:
        """A mask of a's shape: 1 where an element equals that of ``best``, broadcast, or both are NaN, else 0."""
        raise self._missing("matches")

    def cat(self, arrays: Sequence[Array], axis: int, out: Array | None = None) -> Array:
        """Concatenate along ``axis`` (0 <= axis). ``out`` as in ``conv_act_forward``, but that an array may lie in its
        own place there already."""
        raise self._missing("cat")

    def pad_forward(self, x: Array, widths: Sequence[tuple[int, int]], mode: str, value: float) -> Array:
        """Pad every axis by (before, after); negative widths crop. Modes: constant, reflect, replicate, circular.

        A crop is made after the padding beside it, but before a circular one.
        """
        raise self._missing("pad_forward")

    def pad_backward(self, dy: Array, shape: Sequence[int], widths: Sequence[tuple[int, int]], mode: str) -> Array:
        """The adjoint: dx of ``shape``, each padded position's gradient added to the element it copied."""
        raise self._missing("pad_backward")

    def dropout_mask(self, shape: Sequence[int], p: float, key: tuple[int, int]) -> Array:
        """bool, True (kept) with probability 1 - p.

        Element ``i`` in logical order is kept where word i (64 bits) of ``numpy.random.Philox(key=key)`` is at least
        ``floor(p * 2**64)``: the same mask on every device (Salmon et al. 2011, Philox4x64-10). p lies in [0, 1).
        """
        raise self._missing("dropout_mask")

    def dropout_apply(self, x: Array, mask: Array, factor: float) -> Array:
        """x * factor where the mask is True, else 0. Its own backward."""
        raise self._missing("dropout_apply")

    # ----------------------------------------------------------------------------------------- stumps

    def best_splits(self, bins: Array, weight: Array, start: Sequence[int], criterion: str) -> tuple[Array, Array]:
        """bins uint8 (F, N), weight float64 (N,), samples of class k from start[k] to start[k + 1] -> score float64
        (F,), bin int64 (F,): where each feature is best split into ``bins <= bin`` and the rest.

        The score is what both sides are worth: with weights w of the classes in it a side is worth sum(w**2) / sum(w)
        for ``"gini"`` and max(w) for ``"error"``. Bins without weight count as empty; of equal scores the first
        bin is taken; where all weight lies in one bin, bin is -1 and score 0.
        """
        raise self._missing("best_splits")

    # ------------------------------------------------------------------------------------ optimisation

    def steppable(self, params: Sequence[object], grads: Sequence[object]) -> bool:
        """Whether all ``params`` can be written to and each has a gradient of its shape and dtype, ``usable`` arrays
        all of them."""
        raise self._missing("steppable")

    def accumulate(self, into: Array, value: Array) -> None:
        """into += value, in place; the same shape."""
        raise self._missing("accumulate")

    def sgd_step(
        self, params: Sequence[Array], grads: Sequence[Array], buffers: Sequence[Array | None], *, lr: float,
        momentum: float, dampening: float, weight_decay: float, nesterov: bool, first: bool,
    ) -> None:  # fmt: skip
        """In place, as ``torch.optim.SGD``: g += weight_decay * p; buffer = momentum * buffer + (1 - dampening) * g
        (``first``: buffer = g); p -= lr * (g + momentum * buffer if nesterov else buffer). Without momentum the
        buffers are None."""
        raise self._missing("sgd_step")

    def adam_step(
        self, params: Sequence[Array], grads: Sequence[Array], means: Sequence[Array], squares: Sequence[Array], *,
        step: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """In place, as ``torch.optim.Adam`` (``decoupled``: AdamW). ``step`` counts from 1 (Kingma and Ba 2015;
        Loshchilov and Hutter 2019)."""
        raise self._missing("adam_step")
