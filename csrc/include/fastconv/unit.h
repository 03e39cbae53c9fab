/* Arguments of the kernels of a unit: convolution, activation and max-pool as one. Offsets and strides count elements.
 *
 * A window is a box of `places` neighbouring conv outputs; its pooled output is one pixel. An index is the place of the
 * maximum in its window, row by row, or FC_NO_GRADIENT where the activation lets none through. */
#pragma once
#include <stdint.h>

enum { FC_NO_GRADIENT = 255 };

/* small[at[p] + c] = max over q < places of f(large[window[p] + place[q] + c]), f = ReLU with `relu`, else nothing;
 * index[at[p] + c] = the first q that has it (or the first NaN), for 0 <= p < windows, 0 <= c < channels. */
typedef struct fc_pool_windows {
    const void* large;
    const int64_t* window; /* (windows,) */
    const int64_t* place;  /* (places,) */
    void* small;
    uint8_t* index;
    const int64_t* at; /* (windows,) */
    int64_t windows, places, channels;
    int32_t relu;
} fc_pool_windows;

/* pool_windows of conv_tile's sums, for windows of 2 or 4 places, which then never leave the registers: the sum at place q
 * of window p begins at x[window[p] + place[q]]. The other fields are those of fc_conv_tile and fc_pool_windows. */
typedef struct fc_conv_pool {
    const void* x;
    const int64_t* window;
    const int64_t* place;
    const int64_t* tap;
    const void* w;
    const int64_t* wtap;
    const void* bias;
    void* small;
    uint8_t* index;
    const int64_t* at;
    int64_t windows, places, taps, depth, columns;
    int32_t relu;
} fc_conv_pool;

/* large[window[p] + place[q] + c] = small[at[p] + c] where index[index_at[p] + c] == q, else 0, for all p, q and c. */
typedef struct fc_unpool_windows {
    void* large;
    const int64_t* window;
    const int64_t* place;
    const void* small;
    const int64_t* at;
    const uint8_t* index;
    const int64_t* index_at;
    int64_t windows, places, channels;
} fc_unpool_windows;

/* What both gradients read: dy[at[p] + c * channel] belongs to place index[index_at[p] + c] of window p, at
 * window[p] + place[q] in the input; it is live where that is a place. */
typedef struct fc_live {
    const int64_t* window; /* (windows,) */
    const int64_t* place;  /* (places,) */
    const void* dy;
    const int64_t* at; /* (windows,) */
    const uint8_t* index;
    const int64_t* index_at; /* (windows,) */
    int64_t windows, places, channels, channel;
    int64_t ld; /* live_places: from one channel of w to the next */
    void* value; /* (windows * channels,): a list's values, */
    int64_t* offset; /* and where each is multiplied */
    int64_t* start;
} fc_live;

/* live_channels: a list a channel, c * windows on, windows ascending; offset = window + place. start[c] is its end.
 * live_places: a list a window and place, channels ascending, one after the other; offset = channel * ld. The list of
 * (p, q) is [start[p * (places + 1) + q], start[p * (places + 1) + q + 1]). */

/* dw[c * ld + r * width + k] = start + sum over channel c's list of value * x[offset + row[r] + k] for 0 <= r < rows,
 * 0 <= k < width; `start` is dw itself with `accumulate`, else 0. db[c] = start + sum of the values, unless NULL. */
typedef struct fc_live_outer {
    const void* value;
    const int64_t* offset;
    const int64_t* end; /* (channels,) */
    const void* x;
    const int64_t* row; /* (rows,) where each row of taps lies in a window */
    void* dw;
    void* db; /* (channels,) */
    int64_t windows, channels, rows, width, ld;
    int32_t accumulate;
} fc_live_outer;

/* dx[window[p] + place[q] + row[r] + k] += value * w[offset + r * width + k] over the lists of live_places: for each r,
 * p by p, q by q, channel by channel. The rows of one place do not overlap. */
typedef struct fc_live_scatter {
    const void* value;
    const int64_t* offset;
    const int64_t* start;
    const int64_t* window;
    const int64_t* place;
    const int64_t* row;
    const void* w;
    void* dx;
    int64_t windows, places, channels, rows, width;
} fc_live_scatter;

/* The same gradient where the rows are too short for vectors: vectors lie along the channels of dy.
 * dw[(r * width + k) * ld + c] = start + sum over windows p and places q of x[window[p] + place[q] + row[r] + k] * dz,
 * dz = dy[at[p] + c] where index[index_at[p] + c] == q, else 0, for 0 <= c < channels. db[c] = start + the sum of dz. */
typedef struct fc_masked_outer {
    const int64_t* window; /* (windows,) */
    const int64_t* place;  /* (places,) */
    const void* dy;
    const int64_t* at; /* (windows,) */
    const uint8_t* index;
    const int64_t* index_at; /* (windows,) */
    const void* x;
    const int64_t* row; /* (rows,) */
    void* dw;
    void* db;
    int64_t windows, places, channels, rows, width, ld;
    int32_t accumulate;
} fc_masked_outer;
