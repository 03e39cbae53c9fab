/* Arguments of the Winograd transforms. One square tile of pixels a call, for `count` channels that lie side by side;
 * its other form is one number a channel in each of P * P planes, P = m + r - 1 unless said. */
#pragma once
#include <stdint.h>

/* F(m x m, r x r): m x m outputs of an r x r kernel from P x P planes. STRIDED: 4 x 4 outputs of a 3 x 3 kernel at steps
 * of two, from 9 x 9 pixels and 9 x 9 planes; TRANSPOSED: its input's gradient, 8 x 8 pixels from 5 x 5 of the output's.
 * Both multiply with 6 x 6 planes of weights: along an axis those of 0, a, -a, b, infinity and the middle tap; of pixels 0,
 * a, -a, b, three that the middle tap meets, infinity, and the fourth. */
enum fc_winograd_form { FC_WINOGRAD_4X3, FC_WINOGRAD_4X5, FC_WINOGRAD_STRIDED, FC_WINOGRAD_TRANSPOSED };

/* winograd_input            planes = B' pixels B         (P x P pixels of the source)
 * winograd_filter           planes = G pixels G'         (r x r taps)
 * winograd_expand           planes = A pixels A'         (m x m pixels of the output's gradient)
 * winograd_output           pixels = A' planes A + bias + residual, then max(0, .) with `relu`  (m x m pixels)
 * winograd_scatter          pixels += B planes B'          (P x P pixels of the source's gradient; not at steps of two)
 * winograd_filter_gradient  pixels = G' planes G         (r x r taps)
 * Pixels outside [first_row, last_row) x [first_column, last_column) are read as zero, or not written; taps are all
 * there. */
typedef struct fc_winograd {
    void* pixels;        /* where the tile's first pixel lies or would lie */
    void* planes;        /* where its first plane lies */
    const void* bias;    /* (count,) or NULL */
    int64_t row, column; /* elements from a pixel to the one below, to the one beside it */
    int64_t plane;       /* elements from a plane to the next */
    int64_t first_row, last_row, first_column, last_column;
    int64_t count;
    int32_t form, relu;
    const void* residual; /* of winograd_output: where the tile's first pixel lies or would lie in it, or NULL */
    int64_t residual_row, residual_column;
} fc_winograd;

/* The same for a unit whose convolution is pooled in windows of 2 x 2 outputs, four of them a tile; an index is as in
 * unit.h, of elements where `small` has elements.
 * winograd_pool    small = max over each window of f(A' planes A + bias), f = ReLU with `relu`; index = its place
 * winograd_unpool  planes = A pixels A', where each window has its element of small at the place of its index, else 0;
 *                  total[c] += those elements, window by window, unless NULL
 * Windows beyond `rows` and `columns` (1 or 2) are not written, or read as 0. */
typedef struct fc_winograd_windows {
    void* small;    /* the tile's first window */
    uint8_t* index; /* its index */
    void* planes;   /* where the tile's first plane lies */
    const void* bias; /* (count,) or NULL */
    void* total;      /* (count,) or NULL */
    int64_t row, column; /* elements of small from a window to the one below, to the one beside it */
    int64_t index_row, index_column;
    int64_t plane; /* elements from a plane to the next */
    int64_t rows, columns, count;
    int32_t form, relu;
} fc_winograd_windows;

/* Along rows alone, F(4, 5): values at the 8 points of what is a polynomial along one axis. Pixel k of a vector is
 * src[k * step + i], its value at point j is dst[j * plane + i], for 0 <= i < count.
 * winograd_line_input   of 8 pixels of the source: B'
 * winograd_line_filter  of 5 taps: G */
typedef struct fc_winograd_line {
    void* dst;
    const void* src;
    int64_t step, plane, count;
} fc_winograd_line;

/* A pair of output rows in tiles of 2 x 4: the sum of row r, tile t and column c at point j is, over taps s,
 * x[t * tile + j * xplane + tap[s] + r] * w[j * wplane + s * NR + c]; A' takes it to 4 outputs, to which the bias is added.
 * winograd_lines       y = outputs + residual, then max(0, .) with `relu`; 1 or 2 rows
 * winograd_lines_pool  y = max over 2 x 2 outputs of f(.), f = ReLU with `relu`; index = its place, as in unit.h; 2 rows
 * for columns 0 <= c < channels <= NR and the first `outputs` of the rows. Rows and columns are those of y. */
typedef struct fc_winograd_lines {
    const void* x;
    const int64_t* tap; /* (taps,) */
    const void* w;
    const void* bias; /* (NR,) or NULL */
    void* y;
    uint8_t* index; /* as y, of bytes */
    const void* residual; /* of winograd_lines, or NULL */
    int64_t tile, xplane, wplane, taps;
    int64_t row, column, residual_row, residual_column; /* elements from a pixel to the one below, to the one beside it */
    int64_t rows, outputs, channels;
    int32_t relu;
} fc_winograd_lines;
