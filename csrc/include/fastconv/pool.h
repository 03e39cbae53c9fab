/* Arguments of the pooling kernels. Strides count elements. Forward and backward are the same walk: each target pixel
 * (an output forward, an input position backward) is made of a box of source pixels; channels lie side by side. */
#pragma once
#include <stdint.h>

/* One axis: target t sees the sources first[t] + step * i, 0 <= i < count[t]. */
typedef struct fc_pool_axis {
    const int64_t* first;   /* (targets,) */
    const int64_t* count;   /* (targets,) */
    const int64_t* start;   /* (sources,) backward: where each window begins among the targets; forward NULL */
    const int64_t* divisor; /* (targets,) average: what the sum is divided by; NULL: 1 */
    const double* weight;   /* (sources,) average: what each source is multiplied with; NULL: 1 */
    int64_t step;
    int64_t place;          /* max: what one position along this axis adds to a place */
} fc_pool_axis;

/* The targets (h, w), h_first <= h < h_last, 0 <= w < columns, of plane d. Pointers stand at position (0, 0) of the
 * plane d of targets, and of the first plane that d sees; source_step[0] leads from one plane that it sees to the next.
 *
 * The place of a source in the window that starts at `start` is the sum over the axes of place * (position - start).
 * max_pool writes the winner's as a byte (index_bytes 1), or, with `index_bytes` 8, as int64, counted from position 0
 * of the axes instead; with 0 it writes none. Relative places are below 2^24. max_pool_backward reads bytes and adds up
 * the sources whose winner is the target. */
typedef struct fc_pool_box {
    void* target;
    const void* source;
    void* index;
    fc_pool_axis axis[3];
    int64_t d, h_first, h_last, columns, channels;
    int64_t target_step[2], source_step[3], index_step[3]; /* max_pool leaves index_step[0] alone */
    int64_t divisor; /* average: of every target, times the axes' */
    int64_t index_bytes;
    int64_t stream;  /* store past the caches: channels are whole vectors, and the target is aligned to them */
} fc_pool_box;

/* dx[start[o] + q * dx_outer + i * dx_inner + place[places[o, q, i]]] += dy[o * dy_pixel + q * dy_outer + i * dy_inner]
 * for 0 <= o < outputs, 0 <= q < outer, 0 <= i < inner, in this order: the gradient of a row of maxima, from places. */
typedef struct fc_pool_expand {
    void* dx;
    const void* dy;
    const uint8_t* places; /* (outputs, outer, inner) */
    const int64_t* place;  /* where each place of a window lies in dx, from the window's start */
    const int64_t* start;  /* (outputs,) */
    int64_t outputs, outer, inner;
    int64_t dx_outer, dx_inner, dy_pixel, dy_outer, dy_inner;
} fc_pool_expand;

/* dx[index[o, c] * pixel + c] += dy[o, c] for 0 <= o < pixels, 0 <= c < channels, o by o. An index outside
 * [0, plane) adds nothing and sets *outside. */
typedef struct fc_scatter_row {
    void* dx;
    const void* dy;
    const int64_t* index;
    int32_t* outside;
    int64_t pixels, channels, pixel, plane;
    int64_t dy_pixel, dy_channel, index_pixel, index_channel;
} fc_scatter_row;
