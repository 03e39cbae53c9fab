/* Arguments of the convolution micro-kernels. Sizes and offsets count elements, not bytes; pointers are to the table's
 * dtype. One of these kernels works on one tile: who cuts tiles, packs and shares out work is the Cython frame. */
#pragma once
#include <stdint.h>

/* y[ypixel[p] + c] = start + sum over taps t and depth k of x[pixel[p] + tap[t] + k] * w[wtap[t] + k * NR + c]
 * for 0 <= p < pixels, 0 <= c < columns <= NR. `start` is y itself with `accumulate`, else bias[c], else 0.
 * The sum runs over t, then k, one fused multiply-add after the other, whatever the tile: that fixes the bits. */
typedef struct fc_conv_tile {
    const void* x;
    const int64_t* pixel; /* (pixels,) where each output pixel's window starts in x */
    const int64_t* tap;   /* (taps,) where each tap lies in the window */
    const void* w;        /* packed: rows of NR columns, those beyond `columns` are 0 */
    const int64_t* wtap;  /* (taps,) where each tap's `depth` rows lie in w */
    const void* bias;     /* (NR,) or NULL */
    void* y;
    const int64_t* ypixel; /* (pixels,) */
    int64_t pixels, taps, depth, columns;
    int32_t accumulate;
} fc_conv_tile;

/* dw[r * ld + c] = start + sum over pixels p of x[xpixel[p] + row[r]] * dy[ypixel[p] + c]
 * for 0 <= r < rows, 0 <= c < columns (any number). `start` is dw itself with `accumulate`, else 0, and is added last:
 * a sum over very many pixels is a sum of sums, which rounds less than one long chain. */
typedef struct fc_outer_tile {
    const void* x;
    const int64_t* xpixel; /* (pixels,) */
    const int64_t* row;    /* (rows,) */
    const void* dy;
    const int64_t* ypixel; /* (pixels,) */
    void* dw;
    int64_t pixels, rows, columns, ld;
    int32_t accumulate;
} fc_outer_tile;

/* The same for one channel in, one channel out: y[ypixel[p] + c] = bias[c] (or 0) + sum over taps t of
 * x[pixel[p] + tap[t] + c] * w[t * ld + c] for 0 <= p < pixels, 0 <= c < channels. */
typedef struct fc_depthwise_tile {
    const void* x;
    const int64_t* pixel;
    const int64_t* tap;
    const void* w;    /* (taps, ld) */
    const void* bias; /* (channels,) or NULL */
    void* y;
    const int64_t* ypixel;
    int64_t pixels, taps, channels, ld;
} fc_depthwise_tile;

/* dw[t * ld + c] = start + sum over pixels p of x[xpixel[p] + tap[t] + c] * dy[ypixel[p] + c]; `start` as in outer_tile. */
typedef struct fc_depthwise_outer {
    const void* x;
    const int64_t* xpixel;
    const int64_t* tap;
    const void* dy;
    const int64_t* ypixel;
    void* dw;
    int64_t pixels, taps, channels, ld;
    int32_t accumulate;
} fc_depthwise_outer;

/* dst[i * ld + j * dj] = src[i * si + j * sj] for 0 <= i < rows, 0 <= j < columns; 0 for columns <= j < padded. */
typedef struct fc_copy2d {
    void* dst;
    const void* src;
    int64_t rows, columns, padded, ld, dj, si, sj;
} fc_copy2d;

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
