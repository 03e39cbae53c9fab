/* Arguments of the convolution micro-kernels. Sizes and offsets count elements, not bytes; pointers are to the table's
 * dtype. One of these kernels works on one tile: who cuts tiles, packs and shares out work is the Cython frame. */
#pragma once
#include <stdint.h>

/* y[ypixel[p] + c] = start + sum over taps t and depth k of x[pixel[p] + tap[t] + k] * w[wtap[t] + k * NR + c]
 * for 0 <= p < pixels, 0 <= c < columns <= WIDE, where columns from NR on lie in a panel of their own: w[panel + wtap[t] +
 * k * NR + c - NR]. `start` is y itself with `accumulate`, else bias[c], else 0.
 * The sum runs over t, then k, one fused multiply-add after the other, whatever the tile: that fixes the bits.
 * Then, on its way to y, residual[rpixel[p] + c] is added and, with `relu`, what is below 0 becomes 0 (NaN stays NaN);
 * where gate[gpixel[p] + c], the output of a ReLU whose gradient y is, is not above 0 (nor NaN), y is 0.
 * `pixel` may list more than `pixels`: while one register tile is at work, the first taps of the next one among `listed`
 * pixels are brought near; 0 where they are near already. With `warm` y is near as well, and is not asked for ahead. Where
 * that is FC_PAST whole register tiles go past the caches: the vectors of y are aligned and whole, y is not read, and a
 * last call, of no pixels, puts these stores before those that follow.
 * With `source` it is source[spixel[p]] and on that comes near during the register tile of pixel p, for p < listed. With
 * `later` residual and gate are brought near alone. */
enum { FC_PAST = 2 };
typedef struct fc_conv_tile {
    const void* x;
    const int64_t* pixel; /* (pixels,) where each output pixel's window starts in x */
    const int64_t* tap;   /* (taps,) where each tap lies in the window */
    const void* w;        /* packed: rows of NR columns, those beyond `columns` are 0 */
    const int64_t* wtap;  /* (taps,) where each tap's `depth` rows lie in w */
    const void* bias;     /* (NR,) or (2 NR,), as many as the panels have, or NULL */
    void* y;
    const int64_t* ypixel; /* (pixels,) */
    int64_t pixels, listed, taps, depth, columns, panel;
    int32_t accumulate, relu, warm;
    const void* residual;  /* or NULL */
    const int64_t* rpixel; /* (pixels,) where each pixel's residual lies */
    const void* gate;      /* or NULL */
    const int64_t* gpixel; /* (pixels,) */
    int32_t later;
    const void* source;    /* or NULL */
    const int64_t* spixel; /* (listed,) */
} fc_conv_tile;

/* Memory that is read next: `length` elements from data + run[i] on, for 0 <= i < runs. */
typedef struct fc_ahead {
    const void* data;
    const int64_t* run; /* (runs,) */
    int64_t runs, length;
} fc_ahead;

/* dw[r * ld + c] = start + sum over pixels p of x[xpixel[p] + row[r]] * dy[ypixel[p] + c]
 * for 0 <= r < rows, 0 <= c < columns (any number). `start` is dw itself with `accumulate`, else 0, and is added last:
 * a sum over very many pixels is a sum of sums, which rounds less than one long chain.
 * Without `row`, row[r] = r. Without `xpixel` as well, xpixel[p] = p * xstep and ypixel[p] = p * ystep.
 * Meanwhile, bit by bit, what is `ahead` comes near. */
typedef struct fc_outer_tile {
    const void* x;
    const int64_t* xpixel; /* (pixels,) or NULL */
    const int64_t* row;    /* (rows,) or NULL */
    const void* dy;
    const int64_t* ypixel; /* (pixels,) or NULL, as xpixel */
    void* dw;
    int64_t pixels, rows, columns, ld, xstep, ystep;
    fc_ahead ahead[2];
    int32_t accumulate;
} fc_outer_tile;

/* dst[i * ld + j * dj] = src[i * si + j * sj] for 0 <= i < rows, 0 <= j < columns; 0 for columns <= j < padded. */
typedef struct fc_copy2d {
    void* dst;
    const void* src;
    int64_t rows, columns, padded, ld, dj, si, sj;
} fc_copy2d;

/* dst[i * ld + j] = src[i + j * sj] for 0 <= i < rows, 0 <= j < columns, of bytes. */
typedef struct fc_transpose {
    void* dst;
    const void* src;
    int64_t rows, columns, ld, sj;
} fc_transpose;

/* y[r * ldy + c] = bias[c] (or 0) + sum over k of x[r * ldx + k] * w[k, c] for 0 <= r < rows <= FC_FEW_ROWS,
 * 0 <= c < columns, where w[k, c] = w[k * ldw + c] with `by_rows`, else w[c * ldw + k]. The sum is that of conv_tile.
 * `far`: w comes from memory, so lines of it are asked for in advance. */
enum { FC_FEW_ROWS = 4 };
typedef struct fc_few_rows {
    const void* x;
    const void* w;
    const void* bias; /* (columns,) or NULL */
    void* y;
    int64_t rows, depth, columns, ldx, ldw, ldy;
    int32_t by_rows, far;
} fc_few_rows;

/* y[c * ldy + p] = start
 *   + sum over taps t and channels k of x[tap[t] + k * ldx + p] * w[(t * depth + k) * columns + c]
 * for 0 <= p < pixels, 0 <= c < columns <= FC_NARROW. `start` is y itself with `accumulate`, else bias[c], else 0.
 * Whole vectors are read and written: of x and y, up to a vector beyond the last pixel. */
enum { FC_NARROW = 8 };
typedef struct fc_narrow {
    const void* x;
    const int64_t* tap; /* (taps,) */
    const void* w;
    const void* bias; /* (columns,) or NULL */
    void* y;
    int64_t pixels, taps, depth, columns, ldx, ldy;
    int32_t accumulate;
} fc_narrow;

/* dst[(u * depth + k) * NR + c] = src[k * taps + t + c * column] for 0 <= t < taps, 0 <= k < depth, 0 <= c < columns <= NR,
 * where u = t, or taps - 1 - t with `reversed`; 0 for columns <= c < NR. */
typedef struct fc_pack_panel {
    void* dst;
    const void* src;
    int64_t taps, depth, columns, column;
    int32_t reversed;
} fc_pack_panel;

/* dst[p * ld + c] = src[pixel[p] + c * channel] for 0 <= p < pixels, 0 <= c < channels. */
typedef struct fc_gather {
    void* dst;
    const void* src;
    const int64_t* pixel; /* (pixels,) */
    int64_t pixels, channels, ld, channel;
} fc_gather;

/* dst[i] += src[i] for 0 <= i < count. */
typedef struct fc_accumulate {
    void* dst;
    const void* src;
    int64_t count;
} fc_accumulate;
