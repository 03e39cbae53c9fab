"""Convolution and transposed convolution, forward and backward, over one, two or three spatial axes.

Rank is data: arrays are lifted to ``(N, C, D, H, W)`` by views, and lowered afterwards. The transposed convolution has
no kernel of its own: it is the input gradient of the convolution that it is the adjoint of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import config
from ..arguments import flag
from ..backends.base import Array, Backend
from ..geometry import ConvGeometry, conv_geometry, conv_transpose_geometry
from ..precision import compute_mode
from ..tensor import gradient_operands, layer_operands, record
from ._common import RANKS, batched, check_gradient, check_needs, is_frozen, lowered, named, remembered, sizes_of

_conv_geometry = remembered(conv_geometry, shapes=3)
_conv_sizes = remembered(sizes_of(conv_geometry, "oc"), shapes=3)
_conv_transpose_geometry = remembered(conv_transpose_geometry, shapes=3)


_EXACT = config.exact()  # once: this stands on the path of every operation


def resolve_exact(op: str, value: Any) -> bool:
    """Return the option ``exact``: as given, or as FASTCONV_EXACT says."""
    return _EXACT if value is None else flag(op, "exact", value)


def _shape(array: Array | None) -> tuple[int, ...] | None:
    return None if array is None else array.shape


# -------------------------------------------------------------------------------------------- convolution


def _conv(rank: int) -> Callable:
    op = f"conv{rank}d"

    def conv(
        input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1, exact: bool | None = None,
    ) -> Any:  # fmt: skip
        backend, x, w, b = layer_operands(op, input, weight, bias)
        exact = resolve_exact(op, exact)
        x_shape, w_shape = x.shape, w.shape
        options = stride, padding, dilation, groups, exact, compute_mode()
        geometry, y_shape = _conv_sizes(op, rank, x_shape, w_shape, _shape(b), *options)
        x = backend.reshape(x, geometry.input_shape)  # (N, IC, ID, IH, IW)
        w = backend.reshape(w, geometry.weight_shape)  # (OC, IC/G, KD, KH, KW)
        y = backend.reshape(backend.conv_forward(x, w, b, geometry, is_frozen(weight)), y_shape)

        backward = completing(backend, x, w, geometry, x_shape, w_shape)
        return record(y, (input, weight, bias), backward, completes=True)

    conv.__doc__ = f"""Cross-correlate {rank}-D ``input`` with ``weight``: what neural networks call convolution.

    ``y[n, o] = bias[o] + sum_c weight[o, c] * input[n, c]``, and each output size is
    ``floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1``
    (`Dumoulin and Visin 2016 <https://arxiv.org/abs/1603.07285>`_).

    Args:
        input: (N, IC, {rank} sizes), or (IC, {rank} sizes) without a batch; float32 or float64.
        weight: (OC, IC / groups, {rank} kernel sizes), of the same dtype.
        bias: (OC,), or None.
        stride, dilation: an int, or one for each axis.
        padding: zeros at both ends, an int or one for each axis; or two for each: all those before, then all after;
            'valid' is none, 'same' keeps the size (stride 1).
        groups: the channels are split into this many groups that do not see each other.
        exact: True refuses Winograd's algorithm, which ``explain`` names where it would be used (float32 kernels of
            3x3 and 5x5: faster, relative RMS error below 1e-5, and a NaN or infinity spoils the 4x4 outputs around it);
            False allows it; None does as FASTCONV_EXACT says.

    Returns:
        (N, OC, {rank} output sizes), or without N.

    Raises:
        ShapeError: shapes that do not fit. ArgumentError: an option out of range. DTypeError: mixed or other dtypes.

    >>> import numpy as np
    >>> {op}(np.ones((1, 1{", 5" * rank})), np.ones((1, 1{", 3" * rank}))).shape
    (1, 1{", 3" * rank})
    """
    return named(conv, op)


def _conv_backward(rank: int) -> Callable:
    op = f"conv{rank}d_backward"

    def conv_backward(
        dy: Any, x: Any, weight: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
        needs: Sequence[bool] = (True, True, True), exact: bool | None = None,
    ) -> tuple:  # fmt: skip
        check_needs(op, needs, 3)
        backend, dy, x, w = gradient_operands(op, dy, x, weight)
        shape = batched(x.shape, rank)
        exact = resolve_exact(op, exact)
        options = stride, padding, dilation, groups, exact, compute_mode()
        geometry = _conv_geometry(op, rank, shape, w.shape, None, *options)
        check_gradient(op, lowered(x.shape, rank, geometry.oc, geometry.output), dy)
        x5, w5 = backend.reshape(x, geometry.input_shape), backend.reshape(w, geometry.weight_shape)
        return conv_gradients(backend, dy, x5, w5, geometry, needs, x.shape, w.shape)

    conv_backward.__doc__ = f"""Return ``(dx, dw, db)`` of ``conv{rank}d`` for the gradient ``dy`` of its output.

    Args:
        dy: of the output's shape. x, weight and the options: as in the forward call.
        needs: which of the three to compute; the others are None.

    >>> import numpy as np
    >>> x, w = np.ones((1, 1{", 3" * rank})), np.ones((1, 1{", 3" * rank}))
    >>> dx, dw, db = {op}(np.ones((1, 1{", 1" * rank})), x, w)
    >>> dx.shape, dw.shape, db
    ((1, 1{", 3" * rank}), (1, 1{", 3" * rank}), array([1.]))
    """
    return named(conv_backward, op)


def completing(
    backend: Backend, x: Array, w: Array, geometry: ConvGeometry, x_shape: tuple[int, ...], w_shape: tuple[int, ...]
) -> Callable[..., tuple]:
    """Return what ``record`` asks of an operation that ``completes``, for a convolution."""

    def backward(
        dy: Array, needs: Sequence[bool], waiting: Array | None = None, gates: bool = False, spare: bool = False
    ) -> tuple:
        return conv_gradients(backend, dy, x, w, geometry, needs, x_shape, w_shape, waiting, gates, spare)

    return backward


def conv_gradients(
    backend: Backend, dy: Array, x: Array, w: Array, geometry: ConvGeometry, needs: Sequence[bool],
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], waiting: Array | None = None, gates: bool = False,
    spare: bool = False,
) -> tuple:  # fmt: skip
    """x (N, IC, ID, IH, IW), w (OC, IC/G, KD, KH, KW), dy and waiting in the user's rank -> gradients in that.

    ``waiting``, ``gates`` and ``spare`` as in ``record``.
    """
    dy = backend.reshape(dy, geometry.output_shape)  # (N, OC, OD, OH, OW)
    dx = dw = db = None
    if needs[0]:
        waiting = None if waiting is None else backend.reshape(waiting, geometry.input_shape)
        dx = backend.conv_backward_input(dy, w, None, geometry, waiting, x if gates else None, spare)
        dx = backend.reshape(dx, x_shape)
    if needs[1]:
        dw = backend.reshape(backend.conv_backward_weight(dy, x, geometry), w_shape)
    if needs[2]:
        db = backend.bias_backward(dy)
    return dx, dw, db


# --------------------------------------------------------------------------------- transposed convolution
# In the geometry, `input` and `ic` belong to y here, `output` and `oc` to x.


def _conv_transpose(rank: int) -> Callable:
    op = f"conv_transpose{rank}d"

    def conv_transpose(
        input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
        groups: int = 1, dilation: Any = 1, exact: bool | None = None,
    ) -> Any:  # fmt: skip
        backend, x, w, b = layer_operands(op, input, weight, bias)
        geometry = _conv_transpose_geometry(
            op, rank, batched(x.shape, rank), w.shape, _shape(b), stride, padding, output_padding, groups, dilation,
            resolve_exact(op, exact), compute_mode(),
        )  # fmt: skip
        y_shape = lowered(x.shape, rank, geometry.ic, geometry.input)
        x_shape, w_shape = x.shape, w.shape
        x = backend.reshape(x, geometry.output_shape)
        w = backend.reshape(w, geometry.weight_shape)
        y = backend.reshape(backend.conv_backward_input(x, w, b, geometry), y_shape)

        def backward(dy: Array, needs: Sequence[bool]) -> tuple:
            return _conv_transpose_gradients(backend, dy, x, w, geometry, needs, x_shape, w_shape)

        return record(y, (input, weight, bias), backward)

    conv_transpose.__doc__ = f"""Apply the adjoint of ``conv{rank}d``, also called deconvolution, to {rank}-D ``input``.

    Each output size is ``(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1``.

    Args:
        input: (N, IC, {rank} sizes), or (IC, {rank} sizes) without a batch; float32 or float64.
        weight: (IC, OC / groups, {rank} kernel sizes), of the same dtype.
        bias: (OC,), or None.
        stride, padding, dilation, groups: of the convolution whose adjoint this is; ``padding`` may be two for each
            axis there too.
        exact: as for ``conv{rank}d``.
        output_padding: how much larger, at the far end, the output is: a convolution with a stride maps several
            sizes to one. Smaller than the stride or the dilation.

    >>> import numpy as np
    >>> {op}(np.ones((1, 4{", 5" * rank})), np.ones((4, 2{", 2" * rank})), stride=2).shape
    (1, 2{", 10" * rank})
    """
    return named(conv_transpose, op)


def _conv_transpose_backward(rank: int) -> Callable:
    op = f"conv_transpose{rank}d_backward"

    def conv_transpose_backward(
        dy: Any, x: Any, weight: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
        dilation: Any = 1, needs: Sequence[bool] = (True, True, True), exact: bool | None = None,
    ) -> tuple:  # fmt: skip
        check_needs(op, needs, 3)
        backend, dy, x, w = gradient_operands(op, dy, x, weight)
        geometry = _conv_transpose_geometry(
            op, rank, batched(x.shape, rank), w.shape, None, stride, padding, output_padding, groups, dilation,
            resolve_exact(op, exact), compute_mode(),
        )  # fmt: skip
        check_gradient(op, lowered(x.shape, rank, geometry.ic, geometry.input), dy)
        x5, w5 = backend.reshape(x, geometry.output_shape), backend.reshape(w, geometry.weight_shape)
        return _conv_transpose_gradients(backend, dy, x5, w5, geometry, needs, x.shape, w.shape)

    conv_transpose_backward.__doc__ = f"""Return ``(dx, dw, db)`` of ``conv_transpose{rank}d`` for the gradient ``dy``
    of its output; ``needs`` says which to compute, the others are None.
    """
    return named(conv_transpose_backward, op)


def _conv_transpose_gradients(
    backend: Backend, dy: Array, x: Array, w: Array, geometry: ConvGeometry, needs: Sequence[bool],
    x_shape: tuple[int, ...], w_shape: tuple[int, ...],
) -> tuple:  # fmt: skip
    """The adjoint of the adjoint is the convolution; in the weight's gradient x and dy exchange their roles."""
    dy = backend.reshape(dy, geometry.input_shape)
    dx = dw = db = None
    if needs[0]:
        dx = backend.reshape(backend.conv_forward(dy, w, None, geometry), x_shape)
    if needs[1]:
        dw = backend.reshape(backend.conv_backward_weight(x, dy, geometry), w_shape)
    if needs[2]:
        db = backend.bias_backward(dy)
    return dx, dw, db


conv1d, conv2d, conv3d = map(_conv, RANKS)
conv1d_backward, conv2d_backward, conv3d_backward = map(_conv_backward, RANKS)
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_conv_transpose, RANKS)
conv_transpose1d_backward, conv_transpose2d_backward, conv_transpose3d_backward = map(_conv_transpose_backward, RANKS)
