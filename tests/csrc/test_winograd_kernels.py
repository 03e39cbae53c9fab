"""Each Winograd transform alone, per instruction set, against the matrices of Toom and Cook in float64."""

import ctypes

import numpy as np
import pytest

from fastconv.backends.cpu import _lab, available_isas

ISAS = {"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3, "avx512_bf16": 4}
DTYPES = {np.float32: 0, np.float64: 1}
POINTER, SIZE = ctypes.c_void_p, ctypes.c_int64
FIELDS = [("pixels", POINTER), ("planes", POINTER), ("bias", POINTER), ("row", SIZE), ("column", SIZE), ("plane", SIZE)]
FIELDS += [(name, SIZE) for name in ("first_row", "last_row", "first_column", "last_column", "count")]
FIELDS += [("form", ctypes.c_int32), ("relu", ctypes.c_int32), ("residual", POINTER)]
FIELDS += [("residual_row", SIZE), ("residual_column", SIZE)]
STRIDED = {"strided": 2, "transposed": 3}
FORMS = {"4x3": (0, 4, 3, (0.75, 1.5)), "4x5": (1, 4, 5, (0.5, 1.0, 2.0))}


class Winograd(ctypes.Structure):
    _fields_ = FIELDS


class Windows(ctypes.Structure):
    _fields_ = [(name, POINTER) for name in ("small", "index", "planes", "bias", "total")]
    _fields_ += [(name, SIZE) for name in ("row", "column", "index_row", "index_column", "plane")]
    _fields_ += [(name, SIZE) for name in ("rows", "columns", "count")]
    _fields_ += [("form", ctypes.c_int32), ("relu", ctypes.c_int32)]


def matrices(m, kernel, points):
    """A' (m, side), G (side, kernel) and B' (side, side): evaluation at 0, +-a and infinity, and interpolation."""
    finite = [0.0] + [sign * a for a in points for sign in (1, -1)]
    side = m + kernel - 1
    a_t, g, b_t = np.zeros((m, side)), np.zeros((side, kernel)), np.zeros((side, side))
    for i, p in enumerate(finite):
        others = finite[:i] + finite[i + 1 :]
        b_t[i, : side - 1] = np.poly(others)[::-1]
        g[i] = p ** np.arange(kernel) / np.prod([p - q for q in others])
        a_t[:, i] = p ** np.arange(m)
    b_t[-1] = np.poly(finite)[::-1]
    g[-1, -1] = a_t[-1, -1] = 1
    return a_t, g, b_t


PAIRS, SINGLE = [0, 1, 2, 3, 7], [4, 5, 6, 8]  # of the points at stride 2: of F(4, 2), and of the middle tap


def strided_matrices():
    """A' (4, 9), E (9, 6), G (6, 3) and B' (9, 9) of three taps at stride 2, and those of its input's gradient,
    A' (8, 9) and B' (9, 5). E says which point meets which weight."""
    finite = [0.0, 0.75, -0.75, 2.0]
    a_t, g, b_t = np.zeros((4, 9)), np.zeros((6, 3)), np.zeros((9, 9))
    turned_a, turned_b, meets = np.zeros((8, 9)), np.zeros((9, 5)), np.zeros((9, 6))
    for i, p in enumerate([*finite, None]):
        others = [q for q in finite if q != p]
        polynomial = np.poly(others)[::-1]
        b_t[PAIRS[i], : 2 * len(polynomial) : 2] = turned_b[PAIRS[i], : len(polynomial)] = polynomial
        powers = np.eye(4)[3] if p is None else p ** np.arange(4)
        a_t[:, PAIRS[i]] = turned_a[1::2, PAIRS[i]] = powers
        g[i, ::2] = [0, 1] if p is None else np.array([1, p]) / np.prod([p - q for q in others])
        meets[PAIRS[i], i] = 1
    for i, at in enumerate(SINGLE):
        b_t[at, 2 * i + 1] = turned_b[at, i] = a_t[i, at] = turned_a[2 * i, at] = meets[at, 5] = 1
    g[5, 1] = 1
    return a_t, meets, g, b_t, turned_a, turned_b


def maps(name):
    """For each kernel: the matrix that one axis is multiplied with, from pixels to planes or back."""
    if name in STRIDED:
        a_t, _, g, b_t, turned_a, turned_b = strided_matrices()
        if name == "transposed":
            return {"winograd_input": turned_b, "winograd_filter": g}, {"winograd_output": turned_a}
        to_planes = {"winograd_input": b_t, "winograd_filter": g, "winograd_expand": a_t.T}
        return to_planes, {"winograd_output": a_t, "winograd_filter_gradient": g.T}
    _, m, kernel, points = FORMS[name]
    a_t, g, b_t = matrices(m, kernel, points)
    to_planes = {"winograd_input": b_t, "winograd_filter": g, "winograd_expand": a_t.T}
    return to_planes, {"winograd_output": a_t, "winograd_filter_gradient": g.T, "winograd_scatter": b_t.T}


def each(direction):
    """All forms, with the kernels that they have to planes (0) or to pixels (1)."""
    return [(form, kernel) for form in (*FORMS, *STRIDED) for kernel in maps(form)[direction]]


def code(form):
    return STRIDED[form] if form in STRIDED else FORMS[form][0]


def call(kernel, isa, dtype, struct=Winograd, **arguments):
    values = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    _lab.call(kernel, ISAS[isa], DTYPES[dtype], bytes(struct(**values)))


@pytest.fixture(params=available_isas())
def isa(request):
    return request.param


@pytest.fixture(params=list(DTYPES), ids=["float32", "float64"])
def dtype(request):
    return request.param


def channel_counts(isa, dtype):
    width = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[0]
    return sorted({1, width - 1, width, width + 1, 2 * width + 3} - {0})


def windows(size):
    return [(0, size, 0, size), (1, size, 0, size - 1), (0, size - 2, 2, size), (size - 1, size, 0, 1), (0, 0, 0, size)]


@pytest.mark.parametrize("form", FORMS)
def test_the_matrices_make_a_convolution(form):
    _, m, kernel, points = FORMS[form]
    a_t, g, b_t = matrices(m, kernel, points)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(m + kernel - 1), rng.standard_normal(kernel)
    np.testing.assert_allclose(a_t @ ((g @ w) * (b_t @ x)), np.correlate(x, w), rtol=0, atol=1e-12)


def test_the_matrices_make_a_convolution_at_stride_2_and_its_gradient():
    a_t, meets, g, b_t, turned_a, turned_b = strided_matrices()
    rng = np.random.default_rng(0)
    x, dy, w = rng.standard_normal(9), rng.standard_normal(5), rng.standard_normal(3)
    np.testing.assert_allclose(a_t @ ((meets @ g @ w) * (b_t @ x)), np.correlate(x, w)[::2], rtol=0, atol=1e-12)
    spread = np.zeros(12)
    spread[2:11:2] = dy  # the gradient of pixels 1 to 8 by outputs 0 to 4
    direct = np.correlate(spread, w[::-1])[1:9]
    np.testing.assert_allclose(turned_a @ ((meets @ g @ w[::-1]) * (turned_b @ dy)), direct, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form, kernel", each(0))
def test_from_pixels_to_planes(isa, dtype, form, kernel):
    matrix = maps(form)[0][kernel]
    to, size = matrix.shape
    rng = np.random.default_rng(1)
    for count in channel_counts(isa, dtype):
        for window in windows(size)[: 1 if kernel == "winograd_filter" else None]:  # taps are all there
            pixels = rng.standard_normal((size, size + 1, count + 2)).astype(dtype)
            planes = np.full((to * to + 1, count + 3), np.nan, dtype)
            call(
                kernel, isa, dtype, pixels=pixels, planes=planes, row=pixels[0].size, column=count + 2, plane=count + 3,
                first_row=window[0], last_row=window[1], first_column=window[2], last_column=window[3], count=count,
                form=code(form),
            )  # fmt: skip
            inside = np.zeros((size, size, count))
            seen = np.s_[window[0] : window[1], window[2] : window[3]]
            inside[seen] = pixels[:, :size, :count][seen]
            expected = np.einsum("ai,bj,ijc->abc", matrix, matrix, inside).reshape(to * to, count)
            np.testing.assert_allclose(planes[: to * to, :count], expected, rtol=0, atol=500 * np.finfo(dtype).eps)
            assert np.isnan(planes[:, count:]).all()
            assert np.isnan(planes[-1]).all()


@pytest.mark.parametrize("form, kernel", each(1))
def test_from_planes_to_pixels(isa, dtype, form, kernel):
    matrix = maps(form)[1][kernel]
    size, side = matrix.shape
    rng = np.random.default_rng(2)
    for count in channel_counts(isa, dtype):
        for window in windows(size):
            for bias in (None, rng.standard_normal(count).astype(dtype)):
                planes = rng.standard_normal((side * side, count + 3)).astype(dtype)
                pixels = rng.standard_normal((size, size + 1, count + 2)).astype(dtype)
                before = pixels.copy()
                call(
                    kernel, isa, dtype, pixels=pixels, planes=planes, row=pixels[0].size, column=count + 2,
                    plane=count + 3, first_row=window[0], last_row=window[1], first_column=window[2],
                    last_column=window[3], count=count, bias=bias, form=code(form),
                )  # fmt: skip
                whole = planes[:, :count].astype(np.float64).reshape(side, side, count)
                result = np.einsum("ai,bj,ijc->abc", matrix, matrix, whole)
                start = 0 if bias is None else bias
                start = before[:, :size, :count] if kernel == "winograd_scatter" else start
                seen = np.s_[window[0] : window[1], window[2] : window[3], :count]
                expected = before.astype(np.float64)
                expected[seen] = (result + start)[seen]
                np.testing.assert_allclose(pixels, expected, rtol=0, atol=3000 * np.finfo(dtype).eps)


@pytest.mark.parametrize("form", [*FORMS, *STRIDED])
def test_output_adds_the_residual_then_takes_the_maximum(isa, dtype, form):
    size, side = maps(form)[1]["winograd_output"].shape
    rng = np.random.default_rng(3)
    for count in channel_counts(isa, dtype):
        for first_row, last_row, first_column, last_column in windows(size):
            planes = rng.standard_normal((side * side, count)).astype(dtype)
            residual = rng.standard_normal((size + 1, size + 2, count + 1)).astype(dtype)
            start = np.full((size, size, count), 7, dtype)
            plain, ended = start.copy(), start.copy()
            common = {
                "planes": planes, "row": size * count, "column": count, "plane": count, "first_row": first_row,
                "last_row": last_row, "first_column": first_column, "last_column": last_column, "count": count,
                "bias": planes[0], "form": code(form),
            }  # fmt: skip
            call("winograd_output", isa, dtype, pixels=plain, **common)
            call("winograd_output", isa, dtype, pixels=ended, relu=1, residual=residual,
                 residual_row=residual[0].size, residual_column=count + 1, **common)  # fmt: skip
            seen = np.s_[first_row:last_row, first_column:last_column]
            start[seen] = np.maximum(plain + residual[:size, :size, :count], 0)[seen]
            np.testing.assert_array_equal(ended, start)


def in_windows(tile):
    """(4, 4, C) -> (2, 2, 4, C): the places of each window."""
    return tile.reshape(2, 2, 2, 2, -1).transpose(0, 2, 1, 3, 4).reshape(2, 2, 4, -1)


POOLED = [(2, 2), (1, 2), (2, 1), (0, 2)]


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("form", FORMS)
def test_pooled_windows_of_planes(isa, dtype, form, relu):
    matrix = maps(form)[1]["winograd_output"]
    side = matrix.shape[1]
    rng = np.random.default_rng(3)
    for count in channel_counts(isa, dtype):
        for rows, columns in POOLED:
            for bias in (None, rng.standard_normal(count).astype(dtype)):
                planes = rng.standard_normal((side * side, count + 3)).astype(dtype)
                small, index = np.full((2, 3, count + 1), 7, dtype), np.full((2, 2, count + 2), 9, np.uint8)
                call(
                    "winograd_pool", isa, dtype, Windows, small=small, index=index, planes=planes, bias=bias,
                    row=small[0].size, column=count + 1, index_row=index[0].size, index_column=count + 2,
                    plane=count + 3, rows=rows, columns=columns, count=count, form=FORMS[form][0], relu=relu,
                )  # fmt: skip
                whole = planes[:, :count].astype(np.float64).reshape(side, side, count)
                tile = np.einsum("ai,bj,ijc->abc", matrix, matrix, whole) + (0 if bias is None else bias)
                places = in_windows(tile)[:rows, :columns]
                best, where = places.max(2), places.argmax(2)
                if relu:
                    where = np.where(best > 0, where, 255)
                    best = np.maximum(best, 0)
                written = np.s_[:rows, :columns, :count]
                np.testing.assert_allclose(small[written], best, rtol=0, atol=3000 * np.finfo(dtype).eps)
                top = np.sort(places, axis=2)
                clear = (top[:, :, 3] - top[:, :, 2] > 1e-2) & (np.abs(top[:, :, 3]) > 1e-2)  # no near tie
                np.testing.assert_array_equal(index[written][clear], where[clear])
                small[written], index[written] = 7, 9
                assert (small == 7).all()
                assert (index == 9).all()


@pytest.mark.parametrize("form", FORMS)
def test_planes_of_pooled_gradients(isa, dtype, form):
    matrix = maps(form)[0]["winograd_expand"]
    side = matrix.shape[0]
    rng = np.random.default_rng(4)
    for count in channel_counts(isa, dtype):
        for rows, columns in POOLED:
            small = rng.standard_normal((2, 3, count + 1)).astype(dtype)
            index = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (2, 2, count + 2))
            planes, total = np.full((side * side + 1, count + 3), np.nan, dtype), np.full(count + 1, 2, dtype)
            call(
                "winograd_unpool", isa, dtype, Windows, small=small, index=index, planes=planes, total=total,
                row=small[0].size, column=count + 1, index_row=index[0].size, index_column=count + 2,
                plane=count + 3, rows=rows, columns=columns, count=count, form=FORMS[form][0],
            )  # fmt: skip
            tile = np.zeros((4, 4, count))
            for i, j, c in np.ndindex(rows, columns, count):
                if index[i, j, c] < 4:
                    tile[2 * i + index[i, j, c] // 2, 2 * j + index[i, j, c] % 2, c] = small[i, j, c]
            expected = np.einsum("ai,bj,ijc->abc", matrix, matrix, tile).reshape(side * side, count)
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(planes[:-1, :count], expected, rtol=0, atol=3000 * eps)
            np.testing.assert_allclose(total[:count], 2 + tile.sum((0, 1)), rtol=0, atol=50 * eps)
            assert total[count] == 2
            assert np.isnan(planes[:, count:]).all()
            assert np.isnan(planes[-1]).all()
