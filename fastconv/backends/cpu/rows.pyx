"""Sums over the batch and space of (N, C, L), and walks over it with a constant a channel: the frame of batch
normalisation, bias gradients and sums. Means and variances are moments.pyx.

Kernels see matrices whose columns lie side by side and have constants of their own. Where channels lie side by side,
they are the columns and pixels the rows. Else positions do: a channel's are cut into rows of LANES, with the channel's
constant in every column, and its LANES sums are added up at the end. Sums go through partial results: each adds up a
part of the rows, and the parts are added pairwise. The cut depends on the shape and on which of the two layouts it is,
so the bits do not depend on threads. Where each sample has constants or sums of its own, the cut is one of a sample.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fastconv.backends.cpu._csrc cimport fc_accumulate, fc_kernels, fc_normalise, fc_reduce
from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.copies cimport copy_into
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, empty, parallel_for, release
from fastconv.backends.cpu.tiles cimport ceil_div

cnp.import_array()

cdef enum:
    LANE_BYTES = LANES * 8
    TASK_BYTES = 64 * 1024
    STREAM_BYTES = 64 * 1024 * 1024     # what is read and written, beyond which it does not stay in the caches,
    NEAR_BYTES = 24 * 1024 * 1024       # and comes from memory


cdef bint channels_are_columns(const View* x) noexcept nogil:
    if x.size[1] > 1:
        return x.stride[1] == 1
    return x.size[2] > 1 and x.stride[2] != 1


cdef bint rows_join(const View* x) noexcept nogil:
    """Whether the pixels of all samples are rows at one distance."""
    return x.size[0] == 1 or x.size[2] == 1 or x.stride[0] == x.size[2] * x.stride[2]


cdef void join_rows(View* x) noexcept nogil:
    """Make one sample of all."""
    if x.size[2] == 1:
        x.stride[2] = x.stride[0]
    x.size[2] *= x.size[0]
    x.size[0] = 1


cdef Cut cut_rows(const View* x, bint columns) noexcept nogil:
    """How sums are cut into partial results and tasks: the shape and the layout decide."""
    cdef int64_t n = x.size[0], length = x.size[2], channels = x.size[1]
    cdef Cut cut
    if columns:
        cut.rows = max(max(<int64_t> LEAST_ROWS, PART // channels), ceil_div(n * length, MOST_PARTS))
        cut.parts, cut.c_block = ceil_div(n * length, cut.rows), COLUMNS
    else:
        cut.rows = max(ceil_div(PART, length), ceil_div(n, MOST_PARTS))
        cut.parts, cut.c_block = ceil_div(n, cut.rows), max(<int64_t> 1, PART // (cut.rows * length))
    cut.blocks = ceil_div(channels, cut.c_block)
    return cut


cdef bint lies_as(cnp.ndarray array, cnp.ndarray like):
    cdef View v = view(array), w = view(like)
    cdef bint columns = channels_are_columns(&v)
    return channels_are_columns(&w) == columns and (columns or v.stride[2] == 1 or v.size[2] == 1)


cdef cnp.ndarray in_kernel_layout(cnp.ndarray array, cnp.ndarray like=None):
    cdef cnp.ndarray model = array if like is None else like, copy
    cdef View w = view(model)
    cdef bint columns = channels_are_columns(&w)
    if lies_as(array, model):
        return array
    copy = empty((<object> array).shape, array.dtype, "channels_last" if columns else "C")
    copy_into(copy, array)
    return copy


# --------------------------------------------------------------------------------------------------- sums


cdef struct Sums:
    reduce_kernel kernel
    const fc_kernels* kernels
    View x
    View dy
    bint with_dy, columns
    fc_reduce constants
    char* partial           # (samples, parts, sums, C)
    int64_t sums
    int64_t samples, pixels     # those that are added up apart, and the pixels of each
    Cut cut


cdef inline const void* from_channel(const void* values, int64_t c, int64_t size) noexcept nogil:
    if values == NULL:
        return NULL
    return <const char*> values + c * size


cdef void add_pixels(const Sums* s, int64_t sample, int64_t part, int64_t c, int64_t columns) noexcept nogil:
    """Channels as columns: add up the part's pixels, numbered n * L + spot from ``sample`` on."""
    cdef int64_t size = s.x.itemsize, channels = s.x.size[1], pixel = part * s.cut.rows, n, spot
    cdef int64_t last = min(pixel + s.cut.rows, s.pixels), own = sample * channels + c
    cdef int64_t row = (sample * s.cut.parts + part) * s.sums
    cdef fc_reduce call
    call.columns, call.ldx, call.dy = columns, s.x.stride[2], NULL
    call.mean = from_channel(s.constants.mean, own, size)
    call.scale = from_channel(s.constants.scale, own, size)
    call.shift = from_channel(s.constants.shift, own, size)
    call.first = s.partial + (row * channels + c) * size
    call.second = s.partial + ((row + s.sums - 1) * channels + c) * size
    while pixel < last:
        n, spot = sample + pixel // s.x.size[2], pixel % s.x.size[2]
        call.rows = min(last - pixel, s.x.size[2] - spot)
        call.x = element(&s.x, n, c, spot)
        if s.with_dy:
            call.lddy = s.dy.stride[2]
            call.dy = element(&s.dy, n, c, spot)
        s.kernel(&call)
        pixel += call.rows


cdef inline const void* spread(const void* values, int64_t c, int itemsize, char* lanes, int64_t count) noexcept nogil:
    """``count`` copies of values[c], if there are values."""
    cdef int64_t i
    if values == NULL:
        return NULL
    if itemsize == 4:
        for i in range(count):
            (<float*> lanes)[i] = (<const float*> values)[c]
    else:
        for i in range(count):
            (<double*> lanes)[i] = (<const double*> values)[c]
    return lanes


cdef void fold(const Sums* s, char* lanes) noexcept nogil:
    """Add LANES sums up, pairwise, in lane 0."""
    cdef fc_accumulate call
    call.dst, call.count = lanes, LANES // 2
    while call.count > 0:
        call.src = lanes + call.count * s.x.itemsize
        s.kernels.accumulate(&call)
        call.count //= 2


cdef void add_positions(const Sums* s, int64_t part, int64_t c) noexcept nogil:
    """Positions as columns: add up one channel of the part's samples."""
    cdef int64_t size = s.x.itemsize, length = s.x.size[2], first = part * s.cut.rows, n, spot
    cdef int64_t last = min(first + s.cut.rows, s.x.size[0])
    cdef char[LANE_BYTES] mean, scale, shift, one, two
    cdef fc_reduce call
    memset(one, 0, LANE_BYTES)
    memset(two, 0, LANE_BYTES)
    call.dy, call.mean = NULL, spread(s.constants.mean, c, s.x.itemsize, mean, LANES)
    call.scale = spread(s.constants.scale, c, s.x.itemsize, scale, LANES)
    call.shift = spread(s.constants.shift, c, s.x.itemsize, shift, LANES)
    call.first, call.second = one, two
    n = first
    while n < last:
        spot = 0
        while spot < length:
            call.x = element(&s.x, n, c, spot)
            if s.with_dy:
                call.dy = element(&s.dy, n, c, spot)
            if length <= LANES:     # short: a sample is a row
                call.rows, call.columns, call.ldx = last - first, length, s.x.stride[0]
                if s.with_dy:
                    call.lddy = s.dy.stride[0]
            else:
                call.rows, call.columns, call.ldx, call.lddy = (length - spot) // LANES, LANES, LANES, LANES
                if call.rows == 0:
                    call.rows, call.columns = 1, length - spot
            s.kernel(&call)
            spot += call.columns if length <= LANES else call.rows * call.columns
        n += last - first if length <= LANES else 1
    fold(s, one)
    memcpy(s.partial + (part * s.sums * s.x.size[1] + c) * size, one, size)
    if s.sums == 2:
        fold(s, two)
        memcpy(s.partial + ((part * s.sums + 1) * s.x.size[1] + c) * size, two, size)


cdef void add_part(void* context, int64_t index) noexcept nogil:
    """index = (sample * parts + part) * blocks + block of channels."""
    cdef Sums* s = <Sums*> context
    cdef int64_t part = index // s.cut.blocks, c = index % s.cut.blocks * s.cut.c_block
    cdef int64_t last = min(c + s.cut.c_block, s.x.size[1])
    if s.columns:
        add_pixels(s, part // s.cut.parts, part % s.cut.parts, c, last - c)
        return
    for c in range(c, last):
        add_positions(s, part, c)


cdef void join_parts(const Sums* s, char* partial) noexcept nogil:
    """Part 0 <- the pairwise sum of all: part += part + step, for parts 0, 2 step, 4 step, ..."""
    cdef int64_t step = 1, part
    cdef fc_accumulate call
    call.count = s.sums * s.x.size[1]
    while step < s.cut.parts:
        part = 0
        while part + step < s.cut.parts:
            call.dst = partial + part * call.count * s.x.itemsize
            call.src = partial + (part + step) * call.count * s.x.itemsize
            s.kernels.accumulate(&call)
            part += 2 * step
        step *= 2


cdef int reduce_channels(reduce_kernel kernel, const fc_reduce* constants, const View* x, const View* dy, char* first,
                         char* second, bint apart=False) except -1:
    cdef Sums s
    cdef View one = x[0]
    cdef int64_t n, row = x.size[1] * x.itemsize, share, bytes
    s.kernel, s.kernels, s.x, s.with_dy = kernel, kernels(x.itemsize), x[0], dy != NULL
    s.constants, s.sums, s.columns = constants[0], 1 if second == NULL else 2, channels_are_columns(x)
    s.samples = x.size[0] if apart else 1
    memset(first, 0, s.samples * row)
    if second != NULL:
        memset(second, 0, s.samples * row)
    if x.size[0] * x.size[2] * row == 0:
        return 0
    one.size[0] //= s.samples
    s.pixels = one.size[0] * one.size[2]
    if s.with_dy:
        s.dy = dy[0]
    if not apart and s.columns and rows_join(x) and (not s.with_dy or rows_join(dy)):
        join_rows(&s.x)
        if s.with_dy:
            join_rows(&s.dy)
    s.cut = cut_rows(&one, s.columns)
    share = s.cut.parts * s.sums * row
    bytes = s.samples * share
    s.partial = <char*> allocate(bytes)
    if s.partial == NULL:
        raise MemoryError("sum over channels: no memory for partial results")
    with nogil:
        memset(s.partial, 0, bytes)
        parallel_for(s.samples * s.cut.parts * s.cut.blocks, add_part, &s)
        for n in range(s.samples):
            join_parts(&s, s.partial + n * share)
            memcpy(first + n * row, s.partial + n * share, row)
            if second != NULL:
                memcpy(second + n * row, s.partial + n * share + row, row)
        release(s.partial, bytes)
    return 0


# -------------------------------------------------------------------------------------------------- walks


cdef struct Walk:
    normalise_kernel kernel
    fc_normalise call
    const View* y
    const View* x
    const View* dy
    const View* residual
    int64_t share, across   # rows a task: of pixels, or of (n, c); tasks a sample where channels are columns
    int64_t apart           # bytes from one sample's constants to the next one's, 0 where all have the same


cdef inline void place(const Walk* walk, fc_normalise* call, int64_t n, int64_t c, int64_t spot) noexcept nogil:
    call.y, call.x = element(walk.y, n, c, spot), element(walk.x, n, c, spot)
    if walk.dy != NULL:
        call.dy = element(walk.dy, n, c, spot)
    if walk.residual != NULL:
        call.residual = element(walk.residual, n, c, spot)


cdef inline const void* moved(const void* values, int64_t bytes) noexcept nogil:
    return values if values == NULL else <const char*> values + bytes


cdef inline void move_constants(fc_normalise* call, int64_t bytes) noexcept nogil:
    call.mean, call.scale, call.shift = moved(call.mean, bytes), moved(call.scale, bytes), moved(call.shift, bytes)
    call.slope, call.bias = moved(call.slope, bytes), moved(call.bias, bytes)


cdef void walk_pixels(void* context, int64_t index) noexcept nogil:
    """Channels as columns: one run of a sample's pixels (or of samples, where L is 1)."""
    cdef Walk* walk = <Walk*> context
    cdef fc_normalise call = walk.call
    cdef bint by_sample = walk.x.size[2] == 1
    cdef int axis = 0 if by_sample else 2
    cdef int64_t first = index % walk.across * walk.share
    call.rows, call.columns = min(walk.share, walk.x.size[axis] - first), walk.x.size[1]
    call.ldy, call.ldx = walk.y.stride[axis], walk.x.stride[axis]
    if walk.dy != NULL:
        call.lddy = walk.dy.stride[axis]
    if walk.residual != NULL:
        call.ldr = walk.residual.stride[axis]
    place(walk, &call, first if by_sample else index // walk.across, 0, 0 if by_sample else first)
    if walk.apart:
        move_constants(&call, index // walk.across * walk.apart)
    walk.kernel(&call)


cdef void walk_positions(void* context, int64_t index) noexcept nogil:
    """Positions as columns: rows (n, c) [index * share, ...), those of a sample at once."""
    cdef Walk* walk = <Walk*> context
    cdef int64_t channels = walk.x.size[1], row = index * walk.share, c
    cdef int64_t last = min(row + walk.share, walk.x.size[0] * channels)
    cdef fc_normalise call
    while row < last:
        c = row % channels
        call = walk.call
        call.by_row, call.rows, call.columns = 1, min(last - row, channels - c), walk.x.size[2]
        call.ldy, call.ldx = walk.y.stride[1], walk.x.stride[1]
        if walk.dy != NULL:
            call.lddy = walk.dy.stride[1]
        if walk.residual != NULL:
            call.ldr = walk.residual.stride[1]
        place(walk, &call, row // channels, c, 0)
        move_constants(&call, c * walk.x.itemsize)
        walk.kernel(&call)
        row += call.rows


cdef inline const void* lay_beside(char** memory, const void* values, size_t bytes) noexcept nogil:
    """Copy ``values`` to ``memory``, if there are any, and move that to the next cache line."""
    if values == NULL:
        return NULL
    memcpy(memory[0], values, bytes)
    memory[0] += (bytes + 63) // 64 * 64
    return memory[0] - (bytes + 63) // 64 * 64


cdef int normalise_channels(normalise_kernel kernel, const fc_normalise* call, const View* y, const View* x,
                            const View* dy, bint apart=False, const View* residual=NULL) except -1:
    cdef Walk walk
    cdef int64_t n = x.size[0], channels = x.size[1], length = x.size[2], tasks, touched
    cdef size_t bytes = channels * x.itemsize, room = 5 * ((bytes + 63) // 64 * 64)
    cdef char* constants = NULL
    cdef char* at
    if n * channels * length == 0:
        return 0
    walk.kernel, walk.call, walk.y, walk.x, walk.dy, walk.residual = kernel, call[0], y, x, dy, residual
    walk.call.dy, walk.call.residual, walk.call.by_row, walk.apart = NULL, NULL, 0, bytes if apart else 0
    touched = n * channels * length * x.itemsize * (2 if dy == NULL else 3)
    walk.call.stream = 1 if touched >= STREAM_BYTES else 2 if touched >= NEAR_BYTES else 0
    if channels_are_columns(x):
        if not apart:  # constants at the starts of cache lines: each row reads them
            constants = at = <char*> allocate(room)
            if constants == NULL:
                raise MemoryError("normalisation: no memory for its constants")
            walk.call.mean, walk.call.scale = lay_beside(&at, call.mean, bytes), lay_beside(&at, call.scale, bytes)
            walk.call.shift, walk.call.slope = lay_beside(&at, call.shift, bytes), lay_beside(&at, call.slope, bytes)
            walk.call.bias = lay_beside(&at, call.bias, bytes)
        walk.share = max(<int64_t> 1, TASK_BYTES // (channels * x.itemsize))
        walk.across = ceil_div(n if length == 1 else length, walk.share)
        tasks = walk.across if length == 1 else walk.across * n
        with nogil:
            parallel_for(tasks, walk_pixels, &walk)
        if constants != NULL:
            release(constants, room)
    else:
        walk.share = max(<int64_t> 1, TASK_BYTES // (length * x.itemsize))
        with nogil:
            parallel_for(ceil_div(n * channels, walk.share), walk_positions, &walk)
    return 0
