"""Gradients of units of a 2-D convolution and a 2 x 2 max-pool, by Winograd's minimal filtering: who does which chunk.

Where the transformed weight gradient is small, it is summed in parts of the batch. A part is one thread's: its chunks
stay in that one's caches, and what it transforms no other thread reads. Parts of one task are added up there, plane by
plane, so that as little as can be is left to add between threads. Else, or where there are more threads than parts, all
threads work on one chunk after the other, first by rows of tiles, then by planes, then by images. Parts, chunks and the
order of all sums depend on the shape alone.

Memory: transformed weights, the parts' gradients within 2.5 MB (or one), and chunks: 0.75 MB a part's thread, or 3 MB.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy

import numpy as np

from fastconv.backends.cpu.arrays cimport View, view
from fastconv.backends.cpu.dispatch cimport kernels
from fastconv.backends.cpu.runtime cimport allocate, empty, num_threads, parallel_for, release, workspace
from fastconv.backends.cpu.tiles cimport ceil_div
from fastconv.backends.cpu.unit_pool cimport channels_last
from fastconv.backends.cpu.weight_tiles cimport Outer
from fastconv.backends.cpu.winograd_tiles cimport apart, find_far, set_form, set_tiles
from fastconv.backends.cpu.winograd_unit_chunk cimport (
    Backward, Stage, add_to_task, add_totals, add_up, chunk_elements, multiply, packing_bytes, rows_to_transform,
    scatter, set_stage, stage_bytes, sum_bytes, transform, transform_weights, weight_tasks,
)
from fastconv.backends.cpu.winograd_weight cimport Planes, transform_back

cnp.import_array()

cdef int64_t CHUNK_BYTES = 3 * 1024 * 1024
cdef int64_t CHUNK_TILES = 256      # a sum over more tiles is a sum of sums, which rounds less
cdef int64_t PART_BYTES = 640 * 1024    # of a transformed weight gradient that is summed in parts,
cdef int64_t PARTS = 4                  # so many,
cdef int64_t PART_CHUNK = 768 * 1024    # in chunks of so many bytes
cdef int64_t PART_IMAGES = 2            # and at least so many images a part
cdef int64_t NOTHING[1]             # the only depth tap
NOTHING[0] = 0


cdef void run_part(Backward* s, int64_t part, char* memory) noexcept nogil:
    """A part, chunk by chunk."""
    cdef int64_t n = s.grid.count[0] * part // s.parts, last = s.grid.count[0] * (part + 1) // s.parts, i
    cdef Stage stage
    while n < last:
        set_stage(&stage, s, part, n, min(n + s.images, last), memory)
        for i in range(rows_to_transform(&stage)):
            transform(&stage, i, memory + stage_bytes(s))
        for i in range(s.grid.planes):
            multiply(&stage, i)
            if s.weight and n + s.images >= last:
                add_to_task(&stage, i)
        if s.input:
            for i in range(stage.chunk.count[0]):
                scatter(&stage, i)
        add_totals(&stage)
        n += s.images


cdef void run_parts(void* context, int64_t task) noexcept nogil:
    """The parts of a task by one thread."""
    cdef Backward* s = <Backward*> context
    cdef char* memory = <char*> workspace(stage_bytes(s) + packing_bytes(s))
    cdef int64_t part
    if memory == NULL:
        s.failed = True
        return
    for part in range(task * s.together, (task + 1) * s.together):
        run_part(s, part, memory)


cdef void share_rows(void* context, int64_t index) noexcept nogil:
    cdef Stage* stage = <Stage*> context
    cdef char* buffer = <char*> workspace(packing_bytes(stage.s))
    if buffer == NULL:
        stage.s.failed = True
        return
    transform(stage, index, buffer)


cdef void share_planes(void* context, int64_t plane) noexcept nogil:
    multiply(<Stage*> context, plane)


cdef void share_images(void* context, int64_t image) noexcept nogil:
    scatter(<Stage*> context, image)


cdef void run_shared(Backward* s) noexcept nogil:
    """All parts, one after the other, each chunk by all threads."""
    cdef int64_t bytes = stage_bytes(s), part, n, last
    cdef char* memory = <char*> allocate(bytes)
    cdef Stage stage
    if memory == NULL:
        s.failed = True
        return
    for part in range(s.parts):
        n, last = s.grid.count[0] * part // s.parts, s.grid.count[0] * (part + 1) // s.parts
        while n < last:
            set_stage(&stage, s, part, n, min(n + s.images, last), memory)
            parallel_for(rows_to_transform(&stage), share_rows, &stage)
            parallel_for(s.grid.planes, share_planes, &stage)
            if s.input:
                parallel_for(stage.chunk.count[0], share_images, &stage)
            add_totals(&stage)
            n += s.images
    release(memory, bytes)


cdef void run(Backward* s) noexcept nogil:
    if s.input:
        parallel_for(weight_tasks(s), transform_weights, s)
    s.together = 1
    if s.parts > 1 and s.parts >= num_threads():
        while s.parts % (2 * s.together) == 0 and s.parts >= 2 * s.together * num_threads():
            s.together *= 2
        parallel_for(s.parts // s.together, run_parts, s)
    else:
        run_shared(s)
    add_up(s, s.db, s.parts, s.columns * s.grid.itemsize, s.columns)


cdef void cut(Backward* s) noexcept nogil:
    """Choose parts and chunks, from the shape alone."""
    cdef int64_t n = s.grid.count[0], tiles = s.grid.count[2] * s.grid.count[3], bytes = CHUNK_BYTES, part
    s.parts, s.images = 1, max(<int64_t>1, min(n, CHUNK_TILES // tiles))
    if sum_bytes(s) <= PART_BYTES:
        bytes = PART_CHUNK
    while s.images > 1 and chunk_elements(s, s.images) * s.grid.itemsize > bytes:
        s.images -= 1
    if bytes == PART_CHUNK and n >= PARTS * PART_IMAGES:
        s.parts = PARTS
    part = ceil_div(n, s.parts)
    s.images = ceil_div(part, ceil_div(part, s.images))


cdef void set_source(Backward* s, View* x) noexcept nogil:
    cdef int i
    s.source.data, s.source.stride, s.source.channels = x.data, x.stride, s.channels
    find_far(&s.source, x.size[0], s.grid.itemsize)
    s.source.depth_step, s.source.depth_reach = 1, 0
    s.source.first[0], s.source.size[0] = 0, 1
    for i in range(2):
        s.source.first[1 + i], s.source.size[1 + i] = -s.padding[i], x.size[3 + i]
    s.source.extent, s.source.step, s.source.transform = s.grid.side, 1, s.grid.kernels.winograd_input


def winograd_unit_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray x, cnp.ndarray w, geometry, needs, int form):
    """dy and index (N, OC, 1, PH, PW), x (N, IC, 1, IH, IW), w (OC, IC, 1, KH, KW) -> dx channels-last, dw and db."""
    cdef cnp.ndarray dx = None, weight = np.ascontiguousarray(w), places = channels_last(index)
    cdef cnp.ndarray dw = empty(geometry.weight_shape, dy.dtype, "C"), db = empty((geometry.oc,), dy.dtype, "C")
    cdef char* memory
    cdef View xv = view(x)
    cdef Backward s
    cdef Planes planes
    cdef Outer problem
    cdef int64_t weights, sums, totals
    s.input, s.weight, s.failed, planes.failed = needs[0], needs[1] or needs[2], False, False
    if s.input:
        dx = empty(geometry.input_shape, dy.dtype, "channels_last")
        s.dx = view(dx)
    if cnp.PyArray_SIZE(dy) == 0:
        for array in (dx, dw, db):
            if array is not None:
                array.fill(0)
        return dx, dw, db
    s.dy, s.index, s.w = view(dy), view(places), view(weight)
    s.channels, s.columns = geometry.ic, geometry.oc
    s.copies = s.dy.stride[1] != 1
    s.padding[0], s.padding[1] = geometry.padding[1], geometry.padding[2]
    set_form(&s.grid, kernels(s.dy.itemsize), s.dy.itemsize, form)
    set_source(&s, &xv)
    s.grid.count[0], s.grid.count[1] = s.dy.size[0], 1
    set_tiles(&s.grid, 0, 2 * s.dy.size[3], True)
    set_tiles(&s.grid, 1, 2 * s.dy.size[4], True)
    s.grid.box = s.grid.count
    s.panels, s.u_plane = ceil_div(s.channels, s.grid.kernels.nr), apart(s.columns * s.grid.kernels.nr)
    s.sum_plane = apart(s.channels * s.columns)
    cut(&s)
    weights = s.grid.planes * s.panels * s.u_plane * s.grid.itemsize if s.input else 0
    sums, totals = s.parts * sum_bytes(&s) if s.weight else 0, s.parts * s.columns * s.grid.itemsize
    problem.x.itemsize, problem.x.groups, problem.x.depth = s.grid.itemsize, 1, s.channels
    problem.x.channels, problem.pairs = 0, False
    problem.x.axis[0].taps, problem.x.axis[0].weight = 1, NOTHING
    problem.columns, problem.dw, problem.dw_group = s.columns, <char*> cnp.PyArray_DATA(dw), 0
    problem.dw_depth = s.grid.kernel * s.grid.kernel
    problem.dw_column = problem.dw_depth * s.channels
    with nogil:
        memory = <char*> allocate(weights + sums + totals)
        if memory == NULL:
            s.failed = True
        else:
            s.u, s.sums, s.db = memory, memory + weights, memory + weights + sums
            run(&s)
            memcpy(cnp.PyArray_DATA(db), s.db, s.columns * s.grid.itemsize)
            if s.weight:
                planes.problem, planes.grid, planes.u, planes.u_plane = &problem, &s.grid, s.sums, s.sum_plane
                planes.parts, planes.part_size = s.parts // s.together, s.together * s.grid.planes * s.sum_plane
                transform_back(&planes)
        release(memory, weights + sums + totals)
    if s.failed or planes.failed:
        raise MemoryError("gradient of convolution with pooling: no memory for transforms or a workspace")
    return dx, dw, db
