/* Arguments of the micro-kernels for convolutions of few channels a group, depthwise ones among them. Sizes and offsets
 * count elements, not bytes; pointers are to the table's dtype; W is the vector width.
 *
 * Channels are cut into blocks of whole groups, one vector each: a lane is an output channel. What a lane reads of a
 * source pixel's block is lane number lane[k][l], for each k of the `depth` channels in of a group. Without `lane`, and
 * with a depth of 1, lane l reads lane l; with more, a block is one group of W channels out, and lane[k][l] is k. A
 * source position is a pixel of a row: output p and tap t read position p * step + t * spread, and one outside
 * [low, high) counts as zero. */
#pragma once
#include <stdint.h>

/* Where the channels lie. The last block may have fewer lanes than the others. */
typedef struct fc_blocks {
    const int32_t* lane;            /* (depth, W) or NULL */
    int64_t count;                  /* blocks */
    int64_t depth;
    int64_t xlanes, ylanes;         /* of a block: channels in, channels out */
    int64_t last_xlanes, last_ylanes;
} fc_blocks;

/* y[p * ypixel + b * ylanes + l] = bias[b * W + l] (or 0) + sum over kernel rows r, depth k and taps t of
 * x[row[r] + (p * step + t * spread) * xpixel + b * xlanes + lane[k][l]]
 * times w[b * wblock + ((wrow[r] * depth + k) * taps + t) * W + l]
 * for 0 <= p < pixels and each block b. The sum runs over r, then k, then t, one fused multiply-add after the other.
 * With `relu`, what is below 0 becomes 0 (NaN stays NaN). `next_bytes` bytes from `next` on, which need not be memory,
 * are brought near for the call after this one. */
typedef struct fc_grouped_row {
    const void* x;
    const int64_t* row;  /* (rows,) where each kernel row's source row starts */
    const int64_t* wrow; /* (rows,) which row of the kernel it is */
    const void* w;
    const void* bias;    /* (blocks, W) or NULL */
    void* y;
    const void* next;
    int64_t next_bytes, rows, taps, pixels, step, spread, low, high;
    int64_t xpixel, ypixel, wblock;
    fc_blocks blocks;
    int32_t relu;
} fc_grouped_row;

/* dw[b * wblock + ((r * depth + k) * taps + t) * W + l] += sum over lines i and 0 <= p < pixels of
 * x[row[i * rows + r] + (p * step + t * spread) * xpixel + b * xlanes + lane[k][l]]
 * times dy[yrow[i] + p * ypixel + b * ylanes + l]
 * for each block b and kernel row r; a row that is INT64_MIN counts as zero. The sum starts from 0 and is added last:
 * a sum over very many pixels is a sum of sums, which rounds less than one long chain. What `next_x` and `next_dy`
 * say is brought near as above.
 * `turned`, where groups have as many channels in as out, a multiple of 4, rows three taps and W is at least 4: lane l
 * is a channel in, and k one out; x's lane is l and dy's lane[k][l]. */
typedef struct fc_grouped_outer {
    const void* x;
    const int64_t* row;  /* (lines, rows) */
    const void* dy;
    const int64_t* yrow; /* (lines,) */
    void* dw;
    const void *next_x, *next_dy;
    int64_t next_x_bytes, next_dy_bytes, lines, rows, taps, pixels, step, spread, low, high;
    int64_t xpixel, ypixel, wblock;
    fc_blocks blocks;
    int32_t turned;
} fc_grouped_outer;

/* Depthwise convolution with K kernel rows of K taps side by side, 3 (depthwise) or, as `taps` says, 5 or 7
 * (depthwise_lines), and a step of 1 or 2, the same along both axes:
 * y[i * yrow + p * ypixel + b * W + l] = bias[b * W + l] (or 0) + sum over planes q, kernel rows r and taps t of
 * x[plane[q] + (i * step + r) * xrow + (p * step + t) * xpixel + b * W + l]
 * times w[b * wblock + (wplane[q] + r * K + t) * W + l]
 * for 0 <= i < lines, 0 <= p < pixels. Source rows outside [top, bottom) and positions outside [low, high) count as
 * zero. The sum runs over r, then q, then t; `relu` as above. The last block has `last` lanes, the others W.
 * With `stream`, y is stored past the caches where all W lanes are: its vectors are aligned. `next_bytes` bytes from
 * `next` on, which need not be memory, are brought near for the call after this one.
 *
 * The adjoint of 3 x 3 taps and a step of 2, an input gradient:
 * y[(2 * i + a) * yrow + (2 * p + c) * ypixel + b * W + l] = bias[b * W + l] (or 0)
 * + sum over planes q, kernel rows r in {a, a + 2} and taps t in {c, c + 2}, below 3, of
 * x[plane[q] + (i - r / 2) * xrow + (p - t / 2) * xpixel + b * W + l]
 * times w[b * wblock + (wplane[q] + r * 3 + t) * W + l]
 * for 0 <= i < lines, 0 <= p < pixels and a, c in {0, 1}; only rows of y in [ytop, ybottom) and its pixels in
 * [ylow, yhigh) are stored. The sum runs over q, then along the source rows, then along the positions. */
typedef struct fc_depthwise {
    const void* x;
    const int64_t* plane;  /* (planes,) where each plane of the kernel starts in x */
    const int64_t* wplane; /* (planes,) and in w, vectors */
    const void* w;
    const void* bias;      /* (blocks, W) or NULL */
    void* y;
    const void* next;
    int64_t next_bytes, planes, lines, pixels, taps, step, top, bottom, low, high;
    int64_t ytop, ybottom, ylow, yhigh; /* of the adjoint alone */
    int64_t xrow, xpixel, yrow, ypixel, wblock, blocks, last;
    int32_t relu, stream;
} fc_depthwise;

/* The weight gradient of 3 x 3 taps:
 * dw[b * wblock + (r * 3 + t) * W + l] += sum over 0 <= i < lines and 0 <= p < pixels of
 * x[(i * step + r) * xrow + (p * step + t) * xpixel + b * W + l] times dy[i * yrow + p * ypixel + b * W + l],
 * rows, positions and lanes as above. Sums start from 0 and are added last. */
typedef struct fc_depthwise_outer {
    const void* x;
    const void* dy;
    void* dw;
    const void *next_x, *next_dy;
    int64_t next_x_bytes, next_dy_bytes, lines, pixels, step, top, bottom, low, high;
    int64_t xrow, xpixel, yrow, ypixel, wblock, blocks, last;
} fc_depthwise_outer;

/* A tile of 4x4 outputs of a 3x3 convolution, by Winograd's F(4x4, 3x3): 6x6 source pixels. */
typedef struct fc_square {
    int64_t x, y;                     /* where its first source pixel and its first output lie, or would lie */
    int64_t top, bottom, left, right; /* the source pixels that are not zero: [top, bottom) x [left, right) of 6 x 6 */
    int64_t rows, columns;            /* outputs, of 4 x 4 */
} fc_square;

/* One block of channels, `count` tiles. Planes are 36 matrices (count, W) in `planes`, twice for grouped_squares_outer;
 * `blocks` says depth, lane, and as xlanes and ylanes how many lanes this block has.
 * grouped_squares        y = A' (sum over k of u[., k, .] * lane[k] of B' x B) A + bias, then max(0, .) with `relu`
 * grouped_squares_outer  u[., k, .] += sum over tiles of lane[k] of B' x B times A y A'; y is read. The sum starts from
 *                        0 and is added last.
 * u is (36, depth, W). */
typedef struct fc_grouped_squares {
    const void* x;
    void* y;
    void* u;
    const void* bias; /* (W,) or NULL */
    void* planes;
    const fc_square* square; /* (count,) */
    int64_t count, xrow, xcolumn, yrow, ycolumn;
    fc_blocks blocks;
    int32_t relu;
} fc_grouped_squares;
