"""When a convolution runs by Winograd's minimal filtering: where it needs fewer products and rounds little.

The rule counts multiplications an image, so the choice depends on shape and options alone, never on batch or threads.
Rounding is that of float32 sums amplified by the transforms, and grows with the root of the number of terms: the
bounds on terms keep the relative RMS error under 1e-5 for operands of unit variance (asserted in
tests/backends/cpu/test_winograd.py).
"""

from __future__ import annotations

from typing import NamedTuple

from ...geometry import ConvGeometry
from .dispatch import lanes

TRANSFORM = {1: 20, 2: 8}  # by stride: multiplications that the transforms of an element of a plane cost, measured
FEW_TILES = 4  # an image at stride 2, at most: only its input gradient gains for any batch
GAIN = 0.8  # of the direct kernel's multiplications: at most so many, or it does not pay
IMAGE_BYTES = 512 * 1024  # planes of an image, at most, for the adjoint, which adds its tiles image by image
PLANES_BYTES = 3 * 1024 * 1024  # of the gradient of a plane of outputs, for the adjoint plane by plane
FEWEST_COLUMNS = 256  # that count as channels there, so that a quarter of them, a task's, stay in a near cache
LESS = 0.9  # of the convolution's work: at most so much, or the adjoint of a large image does not pay
TILE_BYTES = 2 * 1024 * 1024  # planes of what one tile reads, at most
FEWEST = 16  # channels a group, in and out, that are multiplied group by group
ALONG_ROWS = -1  # in place of a form's code: F(4, 5), rows alone
ROW_POINTS, ROW_OUTPUTS, ROW_STEPS = 8, 4, 18  # of a tile of it, and the operations from its points to its outputs
STRIP_BYTES = 1024 * 1024  # of the source of two output rows, at most
SQUARE = 450  # multiplications of a vector that the transforms of a tile cost, of groups in vectors; measured


class Form(NamedTuple):
    """Tiles of m x m outputs of a kernel x kernel convolution: at stride 1 F(m x m, kernel x kernel); at stride 2, with
    three taps, F(4, 2) of the outer ones and four single products of the middle one along each axis."""

    code: int  # enum fc_winograd_form
    m: int
    kernel: int
    stride: int
    most_terms: int  # of a sum over channels and depth positions

    @property
    def side(self) -> int:
        """Points of a tile along an axis."""
        return self.m + self.kernel - 1 if self.stride == 1 else 2 * self.m + 1

    @property
    def planes(self) -> int:
        return self.side**2

    @property
    def weights(self) -> int:
        """Planes of transformed weights."""
        return self.planes if self.stride == 1 else 36

    def tiles(self, size: int) -> tuple[int, int]:
        """Return how many tiles an axis of ``size`` outputs takes, and how many of them, the last, are short."""
        tiles = -(-size // self.m)
        return tiles, min(tiles, tiles * self.m - size)

    def edges(self, size: int) -> list[int]:
        """Return where the tiles of an axis begin, and its ``size``."""
        tiles, short = self.tiles(size)
        return [i * self.m - max(0, i - tiles + short) for i in range(tiles)] + [size]

    def points(self, size: int) -> int:
        """Return how many points an axis is multiplied at: a short tile leaves out what its last output reads."""
        tiles, short = self.tiles(size)
        return tiles * self.side - short * self.stride


def turned_edges(size: int, padding: int) -> list[int]:
    """Return where the tiles of an axis begin in an input of ``size`` whose gradient is taken at stride 2, and its end.

    A tile begins at an odd place of the padded input, and each output has two of its pixels.
    """
    first = padding % 2 - 1
    edges = FORMS[3, 2].edges(-(-(size - first) // 2))
    return [min(size, max(0, first + 2 * edge)) for edge in edges]


FORMS = {(3, 1): Form(0, 4, 3, 1, 4096), (5, 1): Form(1, 4, 5, 1, 256), (3, 2): Form(2, 4, 3, 2, 4096)}


def form_of(geometry: ConvGeometry) -> Form:
    """Return the form for a geometry that does not decline."""
    return FORMS[geometry.kernel[2], geometry.stride[2]]


def in_vectors(geometry: ConvGeometry, itemsize: int = 4) -> bool:
    """Whether a vector holds whole groups, or exactly one."""
    ic, oc, width = geometry.ic // geometry.groups, geometry.oc // geometry.groups, lanes(itemsize)
    return geometry.groups > 1 and (ic == oc == width or 2 * max(ic, oc) <= width)


def in_squares(geometry: ConvGeometry, itemsize: int = 4) -> bool:
    """Whether grouped_squares.pyx runs the geometry: groups in vectors, or each in two."""
    ic, oc = geometry.ic // geometry.groups, geometry.oc // geometry.groups
    return in_vectors(geometry, itemsize) or (geometry.groups > 1 and ic == oc == 2 * lanes(itemsize))


def _useful(size: int, kernel: int, stride: int, padding: int, output: int) -> int:
    """Products along one axis that are not with padding."""
    starts = (stride * o - padding for o in range(output))
    return sum(max(0, min(size, start + kernel) - max(0, start)) for start in starts)


def _products(geometry: ConvGeometry) -> int:
    """Products of a plane, of one channel with one channel, that are not with padding."""
    g = geometry
    axes = zip(g.input[1:], g.kernel[1:], g.stride[1:], g.padding[1:], g.output[1:], strict=True)
    rows, columns = (_useful(*axis) for axis in axes)
    return rows * columns


def _turned_outputs(geometry: ConvGeometry) -> tuple[int, ...]:
    """What is cut into tiles where the input gradient is a convolution: pixels, at stride 2 pairs along each axis."""
    steps = zip(geometry.input, geometry.padding, geometry.stride, strict=True)
    return tuple(size if step == 1 else -(-(size + 1 - padding % 2) // 2) for size, padding, step in steps)


def _tiles(sizes: tuple[int, ...], m: int) -> int:
    return -(-sizes[1] // m) * -(-sizes[2] // m)


def declines(verb: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """Return why Winograd cannot or should not serve, or None."""
    k = geometry.kernel
    if geometry.exact:
        return "exact"
    if itemsize != 4:
        return "float64 keeps its precision"
    if k[1] != k[2] or (k[1], 1) not in FORMS:
        return f"kernel {k[1]}x{k[2]}, not 3x3 or 5x5"
    step = geometry.stride[1]
    if geometry.stride[2] != step or (k[1], step) not in FORMS or geometry.dilation[1:] != (1, 1):
        return "rows or columns with dilation, or a stride other than 2 of 3x3"
    if step > 1 and geometry.compute == "bf16":
        return "at a stride bfloat16 saves more"
    ic, oc = geometry.ic // geometry.groups, geometry.oc // geometry.groups
    if in_squares(geometry):
        return _squares_decline(geometry, oc if verb == "conv_backward_input" else ic)
    if min(ic, oc) < FEWEST:
        return f"{min(ic, oc)} channels a group, fewer than {FEWEST}"
    form = form_of(geometry)
    reach = (k[0] - 1) * geometry.dilation[0] + 1
    if form.planes * reach * max(ic, oc) * 4 > TILE_BYTES:
        return f"depth taps that span {reach} positions: too much for a tile"
    terms = {"conv_forward": ic * k[0], "conv_backward_input": oc * k[0]}.get(verb, 0)
    if terms > form.most_terms:
        return f"sums of {terms} terms round more than the bound allows"
    direct = _products(geometry) * ic * oc * k[0]
    turned = verb == "conv_backward_input" and adjoint(geometry)
    forward = verb != "conv_backward_input" or turned or adjoint_by_planes(geometry)
    sizes = geometry.output if forward else _turned_outputs(geometry)
    if step > 1 and verb != "conv_backward_input" and _tiles(sizes, form.m) <= FEW_TILES:
        return f"at most {FEW_TILES} tiles at a stride"
    planes = _tiles(sizes, form.m) * form.planes
    products = planes if turned else form.points(sizes[1]) * form.points(sizes[2])
    if products * ic * oc * k[0] + planes * TRANSFORM[form.stride] * (ic + oc) > GAIN * direct:
        return "no fewer products"
    return None


def lines_decline(geometry: ConvGeometry, itemsize: int) -> str | None:
    """Return why few channels cannot or should not run by F(4, 5) along rows, or None."""
    k, ic = geometry.kernel, geometry.ic
    if geometry.exact:
        return "exact"
    if itemsize != 4:
        return "float64 keeps its precision"
    if k[0] != 1 or k[2] != 5:
        return f"kernel {k[0]}x{k[1]}x{k[2]}, not one plane of rows of 5"
    if geometry.stride != (1, 1, 1) or geometry.dilation != (1, 1, 1) or geometry.padding[0] != 0:
        return "stride, dilation or planes of padding"
    if geometry.groups != 1 or ic >= FEWEST:
        return f"{geometry.groups} groups" if geometry.groups != 1 else f"{ic} channels, {FEWEST} or more"
    pairs, tiles = -(-geometry.output[1] // 2), -(-geometry.output[2] // ROW_OUTPUTS)
    lines = k[1] + 1 + 16  # and up to a vector
    if (ROW_POINTS * tiles + ROW_OUTPUTS * (tiles + 1)) * lines * ic * itemsize > STRIP_BYTES:
        return "rows too long to stay in the cache"
    steps = 2 * pairs * tiles * (ROW_POINTS * k[1] * ic + ROW_STEPS)
    if steps > GAIN * geometry.output[1] * geometry.output[2] * k[1] * k[2] * ic:
        return "no fewer products"
    return None


def _squares_decline(geometry: ConvGeometry, depth: int) -> str | None:
    """The same for groups in vectors, ``depth`` channels summed: products and transforms of a vector count."""
    form = form_of(geometry)
    if form.kernel != 3 or form.stride != 1 or geometry.kernel[0] != 1:
        return "groups in vectors take kernels of 1x3x3 and stride 1"
    sizes = (max(o, i) for o, i in zip(geometry.output, geometry.input, strict=True))
    if _tiles(tuple(sizes), form.m) * (form.planes * depth + SQUARE) > GAIN * _products(geometry) * depth:
        return "no fewer products"
    return None


def adjoint(geometry: ConvGeometry) -> bool:
    """Whether the input gradient takes fewer tiles as the adjoint of the forward pass than as a convolution."""
    form = form_of(geometry)
    if in_squares(geometry) or form.stride > 1:
        return False
    tiles = _tiles(geometry.output, form.m)
    channels = (geometry.ic + geometry.oc) // geometry.groups * ((geometry.kernel[0] - 1) * geometry.dilation[0] + 1)
    return 5 * tiles <= 4 * _tiles(geometry.input, form.m) and tiles * form.planes * channels * 4 <= IMAGE_BYTES


def adjoint_by_planes(geometry: ConvGeometry) -> bool:
    """Whether the input gradient of a larger image is the adjoint, plane by plane and with the forward pass's tiles."""
    form = form_of(geometry)
    if in_squares(geometry) or form.stride > 1 or adjoint(geometry):
        return False
    ic, oc = geometry.ic // geometry.groups, geometry.oc // geometry.groups
    reach = (geometry.kernel[0] - 1) * geometry.dilation[0] + 1
    if _tiles(geometry.output, form.m) * form.planes * max(oc * reach, FEWEST_COLUMNS) * 4 > PLANES_BYTES:
        return False

    def work(sizes: tuple[int, ...]) -> int:
        products = form.points(sizes[1]) * form.points(sizes[2]) * ic * oc * geometry.kernel[0]
        return products + _tiles(sizes, form.m) * form.planes * TRANSFORM[1] * (ic + oc)

    return work(geometry.output) <= LESS * work(geometry.input)
