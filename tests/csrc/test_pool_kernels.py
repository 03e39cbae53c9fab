"""The pooling kernels, each alone, per instruction set: NumPy formulas over lists of windows, and no stray writes."""

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_row_kernels import POINTER, SIZE, by_dtype, by_isa, call, close, guarded, struct, untouched, values

CHANNELS = (1, 3, 4, 7, 8, 16, 17, 35, 64, 100, 144, 1200)  # around the widths, blocks of them, and the waiting arrays
IN, OUT = (3, 5, 7), (2, 3, 3)
# Windows along d, h and w: overlapping, with gaps and of several lengths; and along w, one that is the whole axis.
START, COUNT = ((0, 1), (0, 1, 4), (0, 2, 4)), ((2, 2), (2, 3, 1), (3, 2, 3))
WHOLE = ((0, 1), (0, 1, 4), (0,)), ((2, 2), (2, 3, 1), (7,))
EXTENT = (2, 3, 7)


class Axis(ctypes.Structure):
    _fields_ = [(name, POINTER) for name in ("first", "count", "start", "divisor", "weight")]
    _fields_ += [("step", SIZE), ("place", SIZE)]


Box = struct(
    target=POINTER, source=POINTER, index=POINTER, axis=Axis * 3, d=SIZE, h_first=SIZE, h_last=SIZE, columns=SIZE,
    channels=SIZE, target_step=SIZE * 2, source_step=SIZE * 3, index_step=SIZE * 3, divisor=SIZE, index_bytes=SIZE,
    stream=SIZE,
)  # fmt: skip
Scatter = struct(
    dx=POINTER, dy=POINTER, index=POINTER, outside=POINTER, pixels=SIZE, channels=SIZE, pixel=SIZE, plane=SIZE,
    dy_pixel=SIZE, dy_channel=SIZE, index_pixel=SIZE, index_channel=SIZE,
)  # fmt: skip


Expand = struct(
    dx=POINTER, dy=POINTER, places=POINTER, place=POINTER, start=POINTER, outputs=SIZE, outer=SIZE, inner=SIZE,
    dx_outer=SIZE, dx_inner=SIZE, dy_pixel=SIZE, dy_outer=SIZE, dy_inner=SIZE,
)  # fmt: skip


def axes(lists):
    """Three axes from dicts of arrays and numbers."""
    filled = [{k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in axis.items()} for axis in lists]
    return (Axis * 3)(*(Axis(**axis) for axis in filled))


def forward_axes(windows, divisors=False, places=EXTENT):
    lists = []
    for start, count in zip(*windows, strict=True):
        lists.append({"first": np.array(start), "count": np.array(count), "step": 1})
        if divisors:
            lists[-1]["divisor"] = np.array(count)
    for axis, place in zip(lists, (places[1] * places[2], places[2], 1), strict=True):
        axis["place"] = place
    return lists


def backward_axes(windows, weighted=False):
    lists = []
    for size, start, count in zip(IN, *windows, strict=True):
        seen = [[o for o, (s, n) in enumerate(zip(start, count, strict=True)) if s <= p < s + n] for p in range(size)]
        lists.append({
            "first": np.array([o[0] if o else 0 for o in seen]), "count": np.array([len(o) for o in seen]),
            "start": np.array(start), "step": 1,
        })  # fmt: skip
        if weighted:
            lists[-1]["weight"] = 1.0 / np.array(count)
    for axis, place in zip(lists, (EXTENT[1] * EXTENT[2], EXTENT[2], 1), strict=True):
        axis["place"] = place
    return lists


def run(kernel, isa, dtype, lists, target, source, index=None, index_beside=None, divisor=1, stream=0):
    """Call the kernel for every plane of target (D, H, W, C), which sees source (D, H, W, C)."""
    channels = target.shape[-1]
    steps = [int(np.prod(source.shape[k + 1 :])) for k in range(3)]
    steps[0] *= lists[0]["step"]
    beside = target if index_beside is None else index_beside
    index_steps = [int(np.prod(beside.shape[k + 1 :])) for k in range(3)]
    for d in range(target.shape[0]):
        plane = int(lists[0]["first"][d])
        at = {} if index is None else {"index": index[plane if index_beside is not None else d]}
        call(kernel, isa, dtype, Box, target=target[d], source=source[plane], axis=axes(lists), d=d, h_first=0,
             h_last=target.shape[1], columns=target.shape[2], channels=channels,
             target_step=(SIZE * 2)(target.shape[2] * channels, channels), source_step=(SIZE * 3)(*steps),
             index_step=(SIZE * 3)(*index_steps), divisor=divisor,
             index_bytes=0 if index is None else index.itemsize, stream=stream, **at)  # fmt: skip


def outputs(windows):
    """Each output position, and the slices of its window."""
    start, count = windows
    for o in np.ndindex(*(len(s) for s in start)):
        yield o, tuple(slice(start[k][o[k]], start[k][o[k]] + count[k][o[k]]) for k in range(3))


def winners(x, windows):
    """Maxima, their flat indices, and their places in the windows."""
    channels = x.shape[-1]
    shape = (*(len(s) for s in windows[0]), channels)
    y, index, place = np.empty(shape, x.dtype), np.empty(shape, np.int64), np.empty(shape, np.uint8)
    for o, window in outputs(windows):
        seen = x[window]
        best = seen.reshape(-1, channels).argmax(0)
        d, h, w = np.unravel_index(best, seen.shape[:3])
        y[o] = seen.reshape(-1, channels)[best, np.arange(channels)]
        place[o] = (d * EXTENT[1] + h) * EXTENT[2] + w
        index[o] = np.ravel_multi_index((d + window[0].start, h + window[1].start, w + window[2].start), IN)
    return y, index, place


@by_dtype
@by_isa
@pytest.mark.parametrize("windows", [(START, COUNT), WHOLE], ids=["short", "long"])
def test_max_pooling_and_its_places(isa, dtype, windows):
    for channels in CHANNELS:
        x = np.round(values("x", (*IN, channels), dtype))  # ties everywhere
        x[values("spots", x.shape, dtype) > 2.9] = np.nan
        wanted, flat, place = winners(x, windows)
        for form, places in ((flat, IN), (place, EXTENT), (None, EXTENT)):
            y, outer = guarded(wanted.shape, dtype)
            index, index_outer = (None, None) if form is None else guarded(wanted.shape, form.dtype)
            run("max_pool", isa, dtype, forward_axes(windows, places=places), y, x, index)
            np.testing.assert_array_equal(y, wanted)
            assert untouched(outer)
            if form is not None:
                np.testing.assert_array_equal(index, form)
                assert untouched(index_outer)


@by_dtype
@by_isa
@pytest.mark.parametrize("windows", [(START, COUNT), WHOLE], ids=["short", "long"])
def test_max_pooling_gradients(isa, dtype, windows):
    for channels in CHANNELS:
        x = values("x", (*IN, channels), dtype)
        y, flat, place = winners(x, windows)
        dy = values("yy", y.shape, dtype)
        wanted = np.zeros((int(np.prod(IN)), channels))
        np.add.at(wanted, (flat.reshape(-1, channels), np.arange(channels)), dy.reshape(-1, channels))
        dx, outer = guarded(x.shape, dtype)
        run("max_pool_backward", isa, dtype, backward_axes(windows), dx, dy, place, index_beside=dy)
        close(dx.reshape(wanted.shape), wanted, dtype)
        assert untouched(outer)
        dx[...] = 0
        outside, pixels = np.zeros(1, np.int32), dy.size // channels
        call("max_pool_scatter", isa, dtype, Scatter, dx=dx, dy=dy, index=flat, outside=outside, pixels=pixels,
             channels=channels, pixel=channels, plane=int(np.prod(IN)), dy_pixel=channels, dy_channel=1,
             index_pixel=channels, index_channel=1)  # fmt: skip
        close(dx.reshape(wanted.shape), wanted, dtype)
        assert untouched(outer)
        assert not outside.any()


@by_dtype
@by_isa
@pytest.mark.parametrize("images", [1, 5])
def test_expanding_places(isa, dtype, images):
    start = np.array([0, 1, 4])
    for channels in (1, 3, 8, 17):
        place = np.arange(4) * channels  # of windows of four columns
        dy = values("dy", (images, len(start), channels), dtype)
        places = np.random.default_rng(0).integers(0, 4, (len(start), channels, images)).astype(np.uint8)
        wanted = np.ones((images, 8, channels))
        for o, c, n in np.ndindex(*places.shape):
            wanted[n, start[o] + places[o, c, n], c] += dy[n, o, c]
        dx, outer = guarded(wanted.shape, dtype)
        dx[...] = 1
        loops = {"outer": channels, "dx_outer": 1, "dy_outer": 1, "inner": images, "dx_inner": 8 * channels,
                 "dy_inner": len(start) * channels}  # fmt: skip
        if images == 1:
            loops = {"outer": 1, "inner": channels, "dx_inner": 1, "dy_inner": 1}
        call("max_pool_expand", isa, dtype, Expand, dx=dx, dy=dy, places=places, place=place, start=start * channels,
             outputs=len(start), dy_pixel=channels, **loops)  # fmt: skip
        close(dx, wanted, dtype)
        assert untouched(outer)


@by_isa
@pytest.mark.parametrize("wrong", [-1, 4])
def test_scattering_outside_the_plane_is_told_and_writes_nothing(isa, wrong):
    dx, outer = guarded((4, 3), np.float32, fill=0)
    outside = np.zeros(1, np.int32)
    call("max_pool_scatter", isa, np.float32, Scatter, dx=dx, dy=np.ones((2, 3), np.float32), outside=outside,
         index=np.array([[0, wrong, 1], [2, 2, 3]]), pixels=2, channels=3, pixel=3, plane=4, dy_pixel=3, dy_channel=1,
         index_pixel=3, index_channel=1)  # fmt: skip
    assert outside[0]
    np.testing.assert_array_equal(dx.sum(0), [2, 1, 2])
    assert untouched(outer[:40], 0)
    assert untouched(outer[-40:], 0)


@by_dtype
@by_isa
@pytest.mark.parametrize("windows", [(START, COUNT), WHOLE], ids=["short", "long"])
def test_average_pooling_and_its_gradient(isa, dtype, windows):
    for channels in CHANNELS:
        x = values("x", (*IN, channels), dtype)
        means = np.array([x[window].mean((0, 1, 2), dtype=np.float64) for _, window in outputs(windows)])
        y, outer = guarded((*(len(s) for s in windows[0]), channels), dtype)
        run("avg_pool", isa, dtype, forward_axes(windows, divisors=True), y, x)
        close(y, means.reshape(y.shape), dtype)
        assert untouched(outer)
        dy = values("yy", y.shape, dtype)
        for weighted in (False, True):
            wanted = np.zeros(x.shape)
            for o, window in outputs(windows):
                wanted[window] += dy[o].astype(np.float64) / (x[window][..., 0].size if weighted else 6)
            dx, outer = guarded(x.shape, dtype)
            run("avg_pool", isa, dtype, backward_axes(windows, weighted), dx, dy, divisor=1 if weighted else 6)
            close(dx, wanted, dtype)
            assert untouched(outer)


@st.composite
def sliding_windows(draw):
    """The size of each axis, and lists of windows over padded axes: positions, and what sums are divided by."""
    sizes, lists, tables = [], [], []
    for longest, widest in ((4, 2), (6, 4), (15, 5)):
        size, kernel = draw(st.integers(1, longest)), draw(st.integers(1, widest))
        stride, step = draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2]))
        padding = draw(st.integers(0, kernel // 2))
        starts = range(-padding, max(size + padding - (kernel - 1) * step, 1 - padding), stride)
        table = [[p for p in range(s, s + kernel * step, step) if 0 <= p < size] for s in starts]
        counts = np.array([len(seen) for seen in table])
        lists.append({"first": np.array([seen[0] if seen else 0 for seen in table]), "count": counts, "step": step})
        lists[-1]["divisor"] = draw(st.sampled_from([np.full_like(counts, kernel), np.maximum(counts, 1)]))
        sizes.append(size)
        tables.append(table)
    return sizes, lists, tables


# Few, and so many that windows of many taps are read row by row: whole vectors or not, and more than wait at once.
SOME_CHANNELS = st.one_of(st.integers(1, 150), st.sampled_from([160, 256, 272, 280, 288, 1040]))


@by_isa
@given(windows=sliding_windows(), channels=SOME_CHANNELS, dtype=st.sampled_from([np.float32, np.float64]))
def test_average_pooling_of_sliding_windows(isa, windows, channels, dtype):
    sizes, lists, tables = windows
    x = values("x", (*sizes, channels), dtype)
    wanted = np.zeros((*(len(table) for table in tables), channels))
    for o in np.ndindex(wanted.shape[:3]):
        seen = x[np.ix_(*(table[k] for table, k in zip(tables, o, strict=True)))]
        divisors = [axis["divisor"][k] for axis, k in zip(lists, o, strict=True)]
        wanted[o] = seen.sum((0, 1, 2), dtype=np.float64) / np.prod(divisors)
    y, outer = guarded(wanted.shape, dtype)
    run("avg_pool", isa, dtype, lists, y, x)
    close(y, wanted, dtype)
    assert untouched(outer)
    alone = np.empty((*wanted.shape[:3], 1), dtype)
    run("avg_pool", isa, dtype, lists, alone, np.ascontiguousarray(x[..., -1:]))
    np.testing.assert_array_equal(alone[..., 0], y[..., -1])
    for axis in lists:
        axis["divisor"] = np.maximum(axis["count"], 1)
    x[...] = 7
    run("avg_pool", isa, dtype, lists, y, x)
    np.testing.assert_array_equal(y[(wanted != 0).any(-1)], 7)


@by_dtype
@by_isa
@pytest.mark.parametrize("windows", [(START, COUNT), WHOLE], ids=["short", "long"])
@pytest.mark.parametrize("channels", [144, 1088])
def test_storing_past_the_caches_changes_nothing(isa, dtype, windows, channels):
    x = values("x", (*IN, channels), dtype)
    y, _, place = winners(x, windows)
    for kernel, lists, shape, source, beside in [
        ("max_pool", forward_axes(windows), y.shape, x, {}),
        ("avg_pool", forward_axes(windows, divisors=True), y.shape, x, {}),
        ("max_pool_backward", backward_axes(windows), x.shape, y, {"index": place, "index_beside": y}),
    ]:
        plain = np.empty(shape, dtype)
        memory = np.zeros(plain.nbytes + 64, np.uint8)
        first = -memory.ctypes.data % 64
        past = memory[first : first + plain.nbytes].view(dtype).reshape(shape)
        run(kernel, isa, dtype, lists, plain, source, **beside)
        run(kernel, isa, dtype, lists, past, source, stream=1, **beside)
        np.testing.assert_array_equal(past, plain)


@by_dtype
@by_isa
@pytest.mark.parametrize("size", [(1, 7, 7), (2, 3, 5), (1, 1, 17), (3, 4, 2)], ids=str)
def test_averages_of_whole_volumes_have_the_bits_of_a_channel_alone(isa, dtype, size):
    lists = [{"first": np.zeros(1, int), "count": np.array([n]), "divisor": np.array([n]), "step": 1} for n in size]
    for channels in (64, 128, 136, 144, 272, 280, 512, 1024, 1040, 2064):
        x = values("x", (*size, channels), dtype)
        y, outer = guarded((1, 1, 1, channels), dtype)
        run("avg_pool", isa, dtype, lists, y, x)
        close(y, x.mean((0, 1, 2), dtype=np.float64, keepdims=True), dtype)
        assert untouched(outer)
        for c in (0, channels // 2, channels - 1):
            alone = np.empty((1, 1, 1, 1), dtype)
            run("avg_pool", isa, dtype, lists, alone, np.ascontiguousarray(x[..., c : c + 1]))
            assert alone[0, 0, 0, 0] == y[0, 0, 0, c]
