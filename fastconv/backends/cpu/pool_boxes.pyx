"""The frame of pooling, forward and backward: targets are cut into boxes, each for a micro-kernel. Lanes are channels.

Forward, targets are outputs and sources inputs; backward it is the other way round (pool_windows.pyx), so that every
element of a result is written once and its sum has an order of its own. Channels-last sources are read in place. Others
are copied, a box of a few rows and channels at a time, to the thread's workspace; a box that would be too large there
is read channel by channel where it lies. Where channels are too few to fill a vector, lanes are the channels of several
images: source and target are transposed on the way. Results are channels-last.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_copy2d, fc_kernels, fc_pool_box
from fastconv.backends.cpu.arrays cimport View
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.pool_windows cimport Windows, source_range
from fastconv.backends.cpu.runtime cimport parallel_for, workspace
from fastconv.backends.cpu.tiles cimport ceil_div

cdef int64_t BOX_BYTES = 512 * 1024          # of the workspace, where the shape allows
cdef int64_t MOST_BYTES = 2 * 1024 * 1024
cdef int64_t TASK_BYTES = 128 * 1024         # sources and targets of a task
cdef int64_t CHANNELS = 16                   # a block of channels is a multiple of this
cdef int64_t LANES = 128                     # of several images side by side
cdef int64_t SIDE_BYTES = 64 * 1024          # of them, sources and targets
cdef int64_t STREAM_BYTES = 32 * 1024 * 1024  # sources and targets beyond this do not stay in the caches


cdef int64_t side_by_side(geometry, int itemsize) except -1:
    """How many images to lay side by side: several where a few channels of small images leave lanes empty, else 1."""
    cdef int64_t d, h, w, elements, images = 256
    if geometry.c >= CHANNELS or geometry.n < 4:
        return 1
    d, h, w = geometry.input
    elements = d * h * w
    d, h, w = geometry.output
    elements = (elements + d * h * w) * geometry.c
    while images > 16 and (images * geometry.c > LANES or images * elements * itemsize > SIDE_BYTES):
        images //= 2
    return images if images * elements * itemsize <= BOX_BYTES else 1


cdef int64_t source_elements(const Pool* pool) noexcept nogil:
    """The most source elements, a lane, that a box of ``rows`` target rows sees."""
    cdef const Windows* axis = &pool.axes.axis[1]
    cdef int64_t deep = 0, high = 0, low, end, t = 0
    while t < axis.targets:
        source_range(axis, t, min(t + pool.rows, axis.targets), &low, &end)
        high = max(high, end - low)
        t += pool.rows
    for t in range(pool.axes.axis[0].targets):
        deep = max(deep, pool.axes.axis[0].list.count[t])
    return deep * high * pool.axes.axis[2].sources


cdef bint streams(const Pool* pool) noexcept nogil:
    """Whether the target is too large to be in the caches when it is read, and can be stored past them."""
    cdef int64_t pixels = pool.axes.axis[0].sources * pool.axes.axis[1].sources * pool.axes.axis[2].sources
    cdef int64_t bytes = pool.source.itemsize
    cdef int i
    if pool.images > 1 or pool.channels * bytes % 64 or <size_t> pool.target.data % 64:
        return False
    for i in range(5):
        if i != 1 and pool.target.stride[i] * bytes % 64:  # of a part of an array
            return False
    bytes *= pool.source.size[0] * pool.source.size[1] * pixels + pool.target.size[0] * pool.target.stride[0]
    return bytes >= STREAM_BYTES


cdef void choose_boxes(Pool* pool) noexcept nogil:
    """Choose how the targets are cut, and whether the source is packed."""
    cdef int64_t c = pool.source.size[1], itemsize = pool.source.itemsize, elements, row_bytes, lanes
    pool.packed = pool.images > 1 or (pool.source.stride[1] != 1 and c > 1)
    pool.rows, pool.channels = pool.axes.axis[1].targets, c
    if pool.packed:
        elements = source_elements(pool) * pool.images
        while elements * pool.channels * itemsize > BOX_BYTES and (pool.rows > 1 or pool.channels > CHANNELS):
            if pool.rows > 1:
                pool.rows = ceil_div(pool.rows, 2)
                elements = source_elements(pool) * pool.images
            else:
                pool.channels = ceil_div(ceil_div(pool.channels, 2), CHANNELS) * CHANNELS
        if elements * pool.channels * itemsize > MOST_BYTES:
            pool.packed, pool.channels = False, 1  # one channel at a time, in place
    row_bytes = pool.axes.axis[2].targets * pool.channels * itemsize
    if not pool.packed:
        elements = source_elements(pool) * c * itemsize // pool.axes.axis[1].targets
        pool.rows = min(pool.rows, max(<int64_t> 1, TASK_BYTES // (row_bytes + elements)))
    pool.n_boxes = ceil_div(pool.source.size[0], pool.images)
    pool.h_boxes, pool.c_boxes = ceil_div(pool.axes.axis[1].targets, pool.rows), ceil_div(c, pool.channels)
    pool.boxes = pool.n_boxes * pool.axes.axis[0].targets * pool.h_boxes * pool.c_boxes
    lanes, elements = pool.images * pool.channels, source_elements(pool)
    row_bytes = pool.rows * row_bytes * pool.images
    pool.share = max(<int64_t> 1, TASK_BYTES // (elements * lanes * itemsize + row_bytes))
    pool.stream = streams(pool)
    pool.source_bytes = pool.target_bytes = pool.box_bytes = 0
    if pool.packed:
        pool.source_bytes = ceil_div(elements * lanes * itemsize, 64) * 64
    if pool.images > 1:
        pool.target_bytes = ceil_div(row_bytes, 64) * 64
        pool.box_bytes = pool.target_bytes * 8 // itemsize if pool.index_bytes == 8 else 0  # of indices
    pool.box_bytes += pool.source_bytes + pool.target_bytes


cdef void pack(const Pool* pool, int64_t n, int64_t images, int64_t d, int64_t low, int64_t high, int64_t c,
               int64_t channels, char* box) noexcept nogil:
    """Copy the source planes that target plane ``d`` sees, rows [low, high), to (planes, rows, W, channels, images)."""
    cdef const View* x = &pool.source
    cdef const Windows* axis = &pool.axes.axis[0]
    cdef fc_copy2d copy
    cdef int64_t i, h, k, at, width = x.size[4], calls = 1
    copy.rows, copy.columns, copy.ld, copy.dj = width, channels, channels, 1
    copy.si, copy.sj = x.stride[4], x.stride[1]
    if images > 1:
        copy.columns, copy.sj = images, x.stride[0]
        if (x.stride[1] == 1 or channels == 1) and (x.stride[4] == channels or width == 1):
            copy.rows, copy.ld, copy.si = width * channels, images, 1
        else:
            copy.ld, calls = channels * images, channels
    copy.padded = copy.columns
    for i in range(axis.list.count[d]):
        for h in range(low, high):
            at = n * x.stride[0] + c * x.stride[1] + h * x.stride[3]
            at += (axis.list.first[d] + i * axis.list.step) * x.stride[2]
            for k in range(calls):
                copy.src = x.data + (at + k * x.stride[1]) * x.itemsize
                copy.dst = box + k * images * x.itemsize
                pool.kernels.copy2d(&copy)
            box += width * channels * images * x.itemsize


cdef void unpack(const fc_kernels* kernel, char* target, int64_t n_step, const char* box, int64_t images,
                 int64_t elements, int itemsize) noexcept nogil:
    """(elements, images) -> (images, elements)."""
    cdef fc_copy2d copy
    copy.dst, copy.src = target, box
    copy.rows, copy.columns, copy.padded, copy.ld, copy.dj = images, elements, elements, n_step, 1
    copy.si, copy.sj = 1, images
    kernel.copy2d(&copy)


cdef void place_index(const Pool* pool, fc_pool_box* call, int64_t n, int64_t images, int64_t d,
                      int64_t c) noexcept nogil:
    """Where the call finds the places: of the source in order of planes, or of the target."""
    cdef const Windows* axis = &pool.axes.axis[0]
    cdef int64_t lanes = pool.source.size[1] * images, planes, rows, columns, at
    if pool.index_of_source:
        planes, rows, columns = axis.sources, pool.axes.axis[1].sources, pool.axes.axis[2].sources
        at = axis.list.first[d]
    else:
        planes, rows, columns = axis.targets, pool.axes.axis[1].targets, pool.axes.axis[2].targets
        at = d
    call.index_step[2] = lanes
    call.index_step[1] = columns * lanes
    call.index_step[0] = axis.list.step * rows * columns * lanes
    at = n * planes * rows * columns * pool.source.size[1] + at * rows * columns * lanes + c * images
    call.index = pool.index + at * pool.index_bytes


cdef void run_box(Pool* pool, int64_t box, char* memory) noexcept nogil:
    """One box; boxes are numbered in the order n, d, rows, channels."""
    cdef const View* x = &pool.source
    cdef const View* y = &pool.target
    cdef int64_t c = box % pool.c_boxes * pool.channels, h = box // pool.c_boxes % pool.h_boxes * pool.rows
    cdef int64_t d = box // pool.c_boxes // pool.h_boxes, n, at, low, high, images, channels, row
    cdef fc_pool_box call
    cdef char* target
    cdef int i
    n, d = d // pool.axes.axis[0].targets * pool.images, d % pool.axes.axis[0].targets
    images, channels = min(pool.images, x.size[0] - n), min(pool.channels, x.size[1] - c)
    for i in range(3):
        call.axis[i] = pool.axes.axis[i].list
    call.d, call.h_first, call.h_last = d, h, min(h + pool.rows, pool.axes.axis[1].targets)
    call.columns, call.channels = pool.axes.axis[2].targets, channels * images
    call.divisor, call.index_bytes, call.stream = pool.axes.divisor, pool.index_bytes, pool.stream
    if pool.packed:
        source_range(&pool.axes.axis[1], h, call.h_last, &low, &high)
        pack(pool, n, images, d, low, high, c, channels, memory)
        row = x.size[4] * call.channels
        call.source_step[0], call.source_step[1], call.source_step[2] = (high - low) * row, row, call.channels
        call.source = memory - low * row * x.itemsize
    else:
        at = n * x.stride[0] + c * x.stride[1] + pool.axes.axis[0].list.first[d] * x.stride[2]
        call.source = x.data + at * x.itemsize
        call.source_step[0] = pool.axes.axis[0].list.step * x.stride[2]
        call.source_step[1], call.source_step[2] = x.stride[3], x.stride[4]
    target = y.data + (n * y.stride[0] + d * y.stride[2] + c) * y.itemsize
    call.target = target
    call.target_step[0], call.target_step[1] = y.stride[3], y.stride[4]
    if pool.index_bytes:
        place_index(pool, &call, n, images, d, c)
    if pool.images == 1:
        pool.kernel(&call)
        return
    row = call.columns * call.channels
    at = (call.h_last - h) * call.columns * channels
    memory += pool.source_bytes
    call.target_step[0], call.target_step[1] = row, call.channels
    call.target = memory - h * row * y.itemsize
    if pool.index_bytes == 8:
        call.index = memory + pool.target_bytes - h * row * 8
        call.index_step[1], call.index_step[2] = row, call.channels
    pool.kernel(&call)
    h *= y.stride[3]
    unpack(pool.kernels, target + h * y.itemsize, y.stride[0], memory, images, at, y.itemsize)
    if pool.index_bytes == 8:
        h += n * y.stride[0] + d * y.stride[2]
        unpack(kernels(8), pool.index + h * 8, y.stride[0], memory + pool.target_bytes, images, at, 8)


cdef void run_task(void* context, int64_t task) noexcept nogil:
    cdef Pool* pool = <Pool*> context
    cdef char* memory = NULL
    cdef int64_t box
    if pool.box_bytes:
        memory = <char*> workspace(pool.box_bytes)
        if memory == NULL:
            pool.failed = True
            return
    for box in range(task * pool.share, min(pool.boxes, (task + 1) * pool.share)):
        run_box(pool, box, memory)


cdef int run(Pool* pool) except -1:
    """Fill the target."""
    pool.kernels, pool.failed = kernels(pool.source.itemsize), False
    with nogil:
        choose_boxes(pool)
        parallel_for(ceil_div(pool.boxes, pool.share), run_task, pool)
    if pool.failed:
        raise MemoryError("pooling: no memory for a workspace")
    return 0
