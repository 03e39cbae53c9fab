"""What one task of a weight gradient adds up where there is a single tap that sees no padding: a product of matrices.

A tile is a run of pixels, counted over all images. Its sides are read where they lie if their pixels lie at equal
distances and a register tile takes some cache lines of each: the second-level cache then delivers them ahead of the
products. Else they are copied in panels, some channels of each pixel side by side: pixels a multiple of 4 KB apart
would push one another out of the first-level cache, and panels need no lists. Not copied either are what fits one
panel, the lines of several, which are read seldom, if their pixels lie near, and lanes that few lines read. While a
tile is added, the next one is brought near, at a task's end the first one of the next task: the processor foresees no
such pattern. What is normalised is always copied, and normalised there.
"""

from libc.stdint cimport int64_t

from fastconv.backends.cpu._csrc cimport fc_gather, fc_normalise, fc_outer_tile
from fastconv.backends.cpu.tiles cimport Reader, TileAxis, ceil_div, even_part, source_at
from fastconv.backends.cpu.weight_blocks cimport whole_lines
from fastconv.backends.cpu.weight_tiles cimport Block, Outer, Plan, even_block

cdef enum:
    PIXELS = 160            # at most, of a tile. Fewer load and store sums too often; more leave the second-level cache
    NARROW_LINES = 16       # at most, take less time than memory does, and their tiles
    NARROW_PIXELS = 64      # so many pixels
    NEAREST = 1024          # bytes from pixel to pixel up to which lines stay where they are
    FEW_LINES = 64          # read the lanes too seldom to pay for copies of them
    ANYWHERE = 1 << 30
    ENOUGH = 256            # bytes of a pixel in a register tile


cdef struct Side:
    # The channels of a block on one side, and where a tile's pixels lie: in this tile, and in the next.
    const char* data
    const char* ahead               # the channels of the next tile, which are others where that is the next task's
    int64_t ahead_channels
    const fc_normalise* norm        # what copies of the block's channels are normalised with, or NULL
    int64_t norm_first              # number of the first channel there
    int64_t channel                 # elements from channel to channel
    int64_t channels, width         # of the block, of a panel
    int64_t* pixel
    int64_t* next
    char* panels
    const char* first               # of the panels that are multiplied
    int64_t step, apart             # elements from pixel to pixel in a panel, and to the panel of the next channel


cdef bint sees_no_padding(const Plan* plan) noexcept nogil:
    """Whether there is one tap, which sees no padding. From the shape alone."""
    cdef const Reader* x = &plan.problem.x
    cdef int i
    if x.taps != 1:
        return False
    for i in range(3):
        if source_at(&x.axis[i], 0) < 0 or source_at(&x.axis[i], x.axis[i].count - 1) >= x.axis[i].src_size:
            return False
    return True


cdef void choose_pixels(Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    plan.pixels = x.n * x.axis[0].count * x.axis[1].count * x.axis[2].count
    plan.tile = even_part(plan.pixels, NARROW_PIXELS if plan.lines <= NARROW_LINES else PIXELS)
    plan.tiles = ceil_div(plan.pixels, plan.tile)


cdef inline int64_t panels_size(const Plan* plan, int64_t channels, int64_t width) noexcept nogil:
    """Elements of a tile's panels."""
    return ceil_div(channels, width) * width * plan.tile


cdef inline int64_t lane_width(const Plan* plan, int64_t lanes) noexcept nogil:
    """Lanes of a panel: as many as a register tile has, if there are."""
    return plan.problem.x.kernel.nr if lanes <= plan.problem.x.kernel.nr else plan.problem.x.kernel.wide


cdef inline int64_t line_width(const Plan* plan, int64_t lines) noexcept nogil:
    """Lines of a panel: panels of equal size, of whole register tiles."""
    return even_block(lines, plan.problem.x.kernel.wide, plan.problem.x.kernel.mr)


cdef size_t pixels_memory(const Plan* plan) noexcept nogil:
    cdef const Reader* x = &plan.problem.x
    cdef int64_t elements = panels_size(plan, plan.lane_block, lane_width(plan, plan.lane_block))
    elements += plan.tile * (plan.line_block + line_width(plan, x.kernel.wide))  # at most a panel more than lines
    return whole_lines(4 * plan.tile * sizeof(int64_t)) + elements * x.itemsize


cdef int64_t list_tile(const Plan* plan, int64_t tile, int64_t* line, int64_t* lane) noexcept nogil:
    """List where a tile's pixels lie in both arrays. Returns how many there are."""
    cdef const Reader* x = &plan.problem.x
    cdef const TileAxis* ax = &x.axis[0]
    cdef const int64_t* ys = plan.problem.ys
    cdef int64_t* xpixel = lane if plan.wide else line
    cdef int64_t* ypixel = line if plan.wide else lane
    cdef int64_t first = tile * plan.tile, pixels = min(plan.tile, plan.pixels - first), p = 0, n, d, h, w, src, dst
    w = first % ax[2].count
    first //= ax[2].count
    h = first % ax[1].count
    first //= ax[1].count
    d, n = first % ax[0].count, first // ax[0].count
    while p < pixels:
        src = n * x.stride[0] + source_at(&ax[0], d) * x.stride[2] + source_at(&ax[1], h) * x.stride[3]
        dst = n * ys[0] + d * ys[2] + h * ys[3]
        for w in range(w, min(ax[2].count, w + pixels - p)):
            xpixel[p] = src + source_at(&ax[2], w) * x.stride[4]
            ypixel[p] = dst + w * ys[4]
            p += 1
        w = 0
        h += 1
        if h == ax[1].count:
            h, d = 0, d + 1
        if d == ax[0].count:
            d, n = 0, n + 1
    return pixels


cdef bint lie_even(const int64_t* pixel, int64_t pixels) noexcept nogil:
    cdef int64_t p
    for p in range(2, pixels):
        if pixel[p] - pixel[p - 1] != pixel[1] - pixel[0]:
            return False
    return True


cdef void normalise_panel(const Reader* x, const Side* side, const fc_gather* panel, int64_t channel) noexcept nogil:
    """Normalise what was copied, from this channel on."""
    cdef fc_normalise call = side.norm[0]
    call.mean = <const char*> call.mean + channel * x.itemsize
    call.scale = <const char*> call.scale + channel * x.itemsize
    call.shift = <const char*> call.shift + channel * x.itemsize
    call.x = call.y = panel.dst
    call.ldx = call.ldy = panel.ld
    call.rows, call.columns, call.stream = panel.pixels, panel.channels, 0
    x.kernel.normalise_rows(&call)


cdef void set_panels(const Plan* plan, Side* side, int64_t pixels, int64_t nearest) noexcept nogil:
    """Copy a tile in panels, or find that they can stay where they lie: one, or more up to ``nearest`` bytes apart."""
    cdef const Reader* x = &plan.problem.x
    cdef int64_t channel = 0
    cdef fc_gather take
    if side.norm == NULL and (side.channel == 1 or side.channels == 1) and lie_even(side.pixel, pixels):
        side.first, side.apart = side.data + side.pixel[0] * x.itemsize, 1
        side.step = side.pixel[1] - side.pixel[0] if pixels > 1 else 0
        if side.channels <= side.width or 0 <= side.step * x.itemsize <= nearest:
            return
    side.first, side.step, side.apart = side.panels, side.width, plan.tile
    take.pixel, take.pixels, take.channel, take.ld = side.pixel, pixels, side.channel, side.width
    while channel < side.channels:
        take.src = side.data + channel * side.channel * x.itemsize
        take.dst = side.panels + channel * plan.tile * x.itemsize
        take.channels = min(side.width, side.channels - channel)
        x.kernel.gather(&take)
        if side.norm != NULL:
            normalise_panel(x, side, &take, side.norm_first + channel)
        channel += side.width


cdef void multiply(const Plan* plan, const Block* block, const Side* lines, const Side* lanes, int64_t pixels,
                   int64_t following, bint accumulate) noexcept nogil:
    """Add the products of all panels, and bring the ``following`` pixels of the next tile near meanwhile."""
    cdef const Reader* x = &plan.problem.x
    cdef int64_t size = x.itemsize, line, lane = 0, calls, call_index = 0, pixel = 0, end
    cdef fc_outer_tile call
    calls = ceil_div(lines.channels, lines.width) * ceil_div(lanes.channels, lanes.width)
    call.row = NULL
    call.xpixel = NULL
    call.ypixel = NULL
    call.xstep, call.ystep, call.pixels = lines.step, lanes.step, pixels
    call.ld, call.accumulate = block.ld, accumulate
    call.ahead[0].runs = call.ahead[1].runs = 0
    call.ahead[0].data, call.ahead[1].data = lines.ahead, lanes.ahead
    call.ahead[0].length, call.ahead[1].length = lines.ahead_channels, lanes.ahead_channels
    while lane < lanes.channels:
        line = 0
        while line < lines.channels:
            call_index += 1
            end = following * call_index // calls
            call.ahead[0].run, call.ahead[1].run = lines.next + pixel, lanes.next + pixel
            if lines.channel == 1:
                call.ahead[0].runs = end - pixel
            if lanes.channel == 1:
                call.ahead[1].runs = end - pixel
            pixel = end
            call.x, call.rows = lines.first + line * lines.apart * size, min(lines.width, lines.channels - line)
            call.dy, call.columns = lanes.first + lane * lanes.apart * size, min(lanes.width, lanes.channels - lane)
            call.dw = block.sums + (line * block.ld + lane) * size
            x.kernel.outer_tile(&call)
            line += lines.width
        lane += lanes.width


cdef void look_ahead(const Plan* plan, const Block* block, Side* lines, Side* lanes) noexcept nogil:
    """Let both sides' next tile be one of a block."""
    cdef const Outer* problem = plan.problem
    cdef const Reader* x = &problem.x
    cdef int64_t first_x = block.lane if plan.wide else block.line, first_dy = block.line if plan.wide else block.lane
    cdef Side* xs = lanes if plan.wide else lines
    cdef Side* dys = lines if plan.wide else lanes
    xs.ahead = x.data + (block.group * x.depth + first_x) * xs.channel * x.itemsize
    dys.ahead = problem.dy + (block.group * problem.columns + first_dy) * dys.channel * x.itemsize
    lines.ahead_channels, lanes.ahead_channels = block.lines, block.lanes


cdef void add_pixels(const Plan* plan, const Block* block, const Block* after, char* memory) noexcept nogil:
    """Add a task's products. ``after`` is the task that this thread takes next, if it has a tile, or NULL."""
    cdef Outer* problem = plan.problem
    cdef const Reader* x = &problem.x
    cdef int64_t most = plan.tile, size = x.itemsize, pixels, following, n, apart
    cdef int64_t* list = <int64_t*> memory
    cdef bint stays = x.kernel.wide * size >= ENOUGH
    cdef Side xs
    cdef Side dys
    cdef Side* lines = &dys if plan.wide else &xs
    cdef Side* lanes = &xs if plan.wide else &dys
    xs.norm = problem.norm
    dys.norm = NULL
    xs.norm_first = block.lane if plan.wide else block.line
    xs.channel, dys.channel = x.stride[1], problem.ys[1]
    look_ahead(plan, block, lines, lanes)
    lines.data, lanes.data = lines.ahead, lanes.ahead
    lines.channels, lines.width = block.lines, line_width(plan, block.lines)
    lanes.channels, lanes.width = block.lanes, lane_width(plan, block.lanes)
    lines.pixel, lines.next, lanes.pixel, lanes.next = list, list + most, list + 2 * most, list + 3 * most
    lines.panels = memory + whole_lines(4 * most * sizeof(int64_t))
    lanes.panels = lines.panels + panels_size(plan, lines.channels, lines.width) * size
    # Of vectors of one lane GCC makes wider ones that read on behind the array's end.
    apart = ANYWHERE if stays or (lines.channels <= FEW_LINES and x.kernel.width > 1) else 0
    pixels = list_tile(plan, block.first, lines.pixel, lanes.pixel)
    for n in range(block.first, block.last):
        following = 0
        if n + 1 < block.last:
            following = list_tile(plan, n + 1, lines.next, lanes.next)
        elif after != NULL:
            following = list_tile(plan, after.first, lines.next, lanes.next)
            look_ahead(plan, after, lines, lanes)
        set_panels(plan, lines, pixels, ANYWHERE if stays else NEAREST)
        set_panels(plan, lanes, pixels, apart)
        multiply(plan, block, lines, lanes, pixels, following, n > block.first)
        lines.pixel, lines.next = lines.next, lines.pixel
        lanes.pixel, lanes.next = lanes.next, lanes.pixel
        pixels = following
