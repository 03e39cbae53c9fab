/* Arguments of the pooling kernels: one row of output pixels, channels side by side. Strides count elements. */
#pragma once
#include <stdint.h>

/* Output pixel o < pixels is element o of the small side and sees a window of the large side: d_count x h_count x
 * w_count[o] elements, from large + w_start[o] * w_pixel on, `step` apart along d, h and w. Forward, `large` is read
 * and `small` written; backward, small / divisor is added to the window in `large`. */
typedef struct fc_pool_row {
    void* large;
    void* small;
    void* index;             /* max: (pixels, channels) as `small`, int64 if `wide`, else int32 */
    const int64_t* w_start;  /* (pixels,) */
    const int64_t* w_count;  /* (pixels,) */
    const int64_t* w_divisor; /* average: (pixels,) or NULL; times `divisor` */
    int64_t channels, pixels, pixel; /* pixel: from one output pixel to the next */
    int64_t d_count, h_count, w_pixel;
    int64_t step[3];
    int64_t plane_first, plane_step[3]; /* the same window in the (D, H, W) plane of indices; its w_pixel is 1 */
    int64_t divisor;
    int32_t wide;
} fc_pool_row;

/* dx[index[o, c] * pixel + c] += dy[o, c] for 0 <= o < pixels, 0 <= c < channels, o by o. */
typedef struct fc_scatter_row {
    void* dx;
    const void* dy;
    const void* index; /* int64 if `wide`, else int32 */
    int64_t pixels, channels, pixel;
    int64_t dy_pixel, dy_channel, index_pixel, index_channel;
    int32_t wide;
} fc_scatter_row;
