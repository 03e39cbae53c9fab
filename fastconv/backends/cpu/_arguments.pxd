# The arguments of the micro-kernels (csrc/include/fastconv) by the fields that Cython touches; sizes count elements.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t


cdef extern from "fastconv/kernels.h" nogil:
    ctypedef struct fc_conv_tile:
        const void* x
        const int64_t* pixel
        const int64_t* tap
        const void* w
        const int64_t* wtap
        const void* bias
        void* y
        const int64_t* ypixel
        int64_t pixels, listed, taps, depth, columns, panel
        int32_t accumulate, relu, warm
        const void* residual
        const void* gate
        const int64_t* rpixel
        const int64_t* gpixel
        const void* source
        const int64_t* spixel
        int32_t later

    ctypedef struct fc_ahead:
        const void* data
        const int64_t* run
        int64_t runs, length

    ctypedef struct fc_outer_tile:
        const void* x
        const int64_t* xpixel
        const int64_t* row
        const void* dy
        const int64_t* ypixel
        void* dw
        int64_t pixels, rows, columns, ld, xstep, ystep
        fc_ahead[2] ahead
        int32_t accumulate

    ctypedef struct fc_blocks:
        const int32_t* lane
        int64_t count, depth, xlanes, ylanes, last_xlanes, last_ylanes

    ctypedef struct fc_grouped_row:
        const void* x
        const int64_t* row
        const int64_t* wrow
        const void* w
        const void* bias
        void* y
        const void* next
        int64_t next_bytes, rows, taps, pixels, step, spread, low, high, xpixel, ypixel, wblock
        fc_blocks blocks
        int32_t relu

    ctypedef struct fc_grouped_outer:
        const void* x
        const int64_t* row
        const void* dy
        const int64_t* yrow
        void* dw
        const void* next_x
        const void* next_dy
        int64_t next_x_bytes, next_dy_bytes, lines, rows, taps, pixels, step, spread, low, high, xpixel, ypixel, wblock
        fc_blocks blocks
        int32_t turned

    ctypedef struct fc_square:
        int64_t x, y, top, bottom, left, right, rows, columns

    ctypedef struct fc_grouped_squares:
        const void* x
        void* y
        void* u
        void* planes
        const void* bias
        const fc_square* square
        int64_t count, xrow, xcolumn, yrow, ycolumn
        fc_blocks blocks
        int32_t relu

    ctypedef struct fc_depthwise:
        const void* x
        const int64_t* plane
        const int64_t* wplane
        const void* w
        const void* bias
        void* y
        const void* next
        int64_t next_bytes, planes, lines, pixels, taps, step, top, bottom, low, high, ytop, ybottom, ylow, yhigh
        int64_t xrow, xpixel, yrow, ypixel, wblock, blocks, last
        int32_t relu, stream

    ctypedef struct fc_depthwise_outer:
        const void* x
        const void* dy
        void* dw
        const void* next_x
        const void* next_dy
        int64_t next_x_bytes, next_dy_bytes, lines, pixels, step, top, bottom, low, high
        int64_t xrow, xpixel, yrow, ypixel, wblock, blocks, last

    ctypedef struct fc_copy2d:
        void* dst
        const void* src
        int64_t rows, columns, padded, ld, dj, si, sj

    enum: FC_FEW_ROWS, FC_NARROW, FC_PAST

    ctypedef struct fc_few_rows:
        const void* x
        const void* w
        const void* bias
        void* y
        int64_t rows, depth, columns, ldx, ldw, ldy
        int32_t by_rows, far

    ctypedef struct fc_narrow:
        const void* x
        const int64_t* tap
        const void* w
        const void* bias
        void* y
        int64_t pixels, taps, depth, columns, ldx, ldy
        int32_t accumulate

    ctypedef struct fc_pack_panel:
        void* dst
        const void* src
        int64_t taps, depth, columns, column
        int32_t reversed

    ctypedef struct fc_gather:
        void* dst
        const void* src
        const int64_t* pixel
        int64_t pixels, channels, ld, channel

    ctypedef struct fc_accumulate:
        void* dst
        const void* src
        int64_t count

    ctypedef struct fc_transpose:
        void* dst
        const void* src
        int64_t rows, columns, ld, sj

    ctypedef struct fc_pair_columns:
        void* dst
        const void* src
        int64_t rows, columns, ld, si, sj

    ctypedef struct fc_pair_rows:
        void* dst
        const void* src
        const int64_t* row
        int64_t rows, columns, ld, step

    ctypedef struct fc_pack_pairs:
        void* dst
        const void* src
        int64_t depth, columns, column

    ctypedef struct fc_map:
        void* y
        const void* x[5]  # FC_MAP_INPUTS
        int64_t step[5]
        int64_t rows, count
        double scalar[2]
        int32_t stream, kind

    ctypedef struct fc_masked:
        void* y
        const void* x
        const uint8_t* mask
        int64_t count
        double factor

    ctypedef struct fc_random_mask:
        uint8_t* mask
        int64_t first, count
        uint64_t key[2]
        uint64_t threshold

    ctypedef struct fc_channels:
        void* y
        const void* a
        const void* b
        int64_t channels, positions, ldy, lda, ldb

    ctypedef struct fc_targets:
        void* y
        const void* log_prob
        const int64_t* target
        const void* weight
        void* loss
        void* scale
        const void* dloss
        int64_t channels, positions, ldy, ldl, target_step, dloss_step, ignore_index
        double smoothing

    ctypedef struct fc_pool_axis:
        const int64_t* first
        const int64_t* count
        const int64_t* start
        const int64_t* divisor
        const double* weight
        int64_t step, place

    ctypedef struct fc_pool_box:
        void* target
        const void* source
        void* index
        fc_pool_axis axis[3]
        int64_t d, h_first, h_last, columns, channels, divisor, index_bytes, stream
        int64_t target_step[2]
        int64_t source_step[3]
        int64_t index_step[3]

    ctypedef struct fc_pool_expand:
        void* dx
        const void* dy
        const uint8_t* places
        const int64_t* place
        const int64_t* start
        int64_t outputs, outer, inner, dx_outer, dx_inner, dy_pixel, dy_outer, dy_inner

    ctypedef struct fc_scatter_row:
        void* dx
        const void* dy
        const int64_t* index
        int32_t* outside
        int64_t pixels, channels, pixel, plane, dy_pixel, dy_channel, index_pixel, index_channel

    ctypedef struct fc_pool_windows:
        const void* large
        const int64_t* window
        const int64_t* place
        void* small
        uint8_t* index
        const int64_t* at
        int64_t windows, places, channels
        int32_t relu

    ctypedef struct fc_conv_pool:
        const void* x
        const int64_t* window
        const int64_t* place
        const int64_t* tap
        const void* w
        const int64_t* wtap
        const void* bias
        void* small
        uint8_t* index
        const int64_t* at
        int64_t windows, places, taps, depth, columns
        int32_t relu

    ctypedef struct fc_unpool_windows:
        void* large
        const int64_t* window
        const int64_t* place
        const void* small
        const int64_t* at
        const uint8_t* index
        const int64_t* index_at
        int64_t windows, places, channels

    ctypedef struct fc_live:
        const int64_t* window
        const int64_t* place
        const void* dy
        const int64_t* at
        const uint8_t* index
        const int64_t* index_at
        int64_t windows, places, channels, channel, ld
        void* value
        int64_t* offset
        int64_t* start

    ctypedef struct fc_live_outer:
        const void* value
        const int64_t* offset
        const int64_t* end
        const void* x
        const int64_t* row
        void* dw
        void* db
        int64_t windows, channels, rows, width, ld
        int32_t accumulate

    ctypedef struct fc_live_scatter:
        const void* value
        const int64_t* offset
        const int64_t* start
        const int64_t* window
        const int64_t* place
        const int64_t* row
        const void* w
        void* dx
        int64_t windows, places, channels, rows, width

    ctypedef struct fc_masked_outer:
        const int64_t* window
        const int64_t* place
        const void* dy
        const int64_t* at
        const uint8_t* index
        const int64_t* index_at
        const void* x
        const int64_t* row
        void* dw
        void* db
        int64_t windows, places, channels, rows, width, ld
        int32_t accumulate

    ctypedef struct fc_step:
        void* p
        const void* g
        void* first
        void* second
        int64_t count
        double lr, weight_decay, momentum, dampening, beta1, beta2, eps, correction, shrink
        int32_t nesterov, start

    int FC_BINS

    ctypedef struct fc_weighted_rows:
        void* y
        const void* x
        const int64_t* start
        const int64_t* row
        const void* weight
        const int64_t* offset
        const void* share
        int64_t outputs, columns, ldy, ldx
        int32_t accumulate, parts

    enum:
        FC_POINTWISE_elu, FC_POINTWISE_gelu, FC_POINTWISE_gelu_tanh, FC_POINTWISE_silu, FC_POINTWISE_mish
        FC_POINTWISE_hardswish, FC_POINTWISE_hardsigmoid, FC_POINTWISE_softplus, FC_POINTWISE_softsign
        FC_POINTWISE_clip, FC_POINTWISE_hardtanh, FC_POINTWISE_exp, FC_POINTWISE_log, FC_POINTWISE_sqrt
        FC_POINTWISE_abs, FC_POINTWISE_reciprocal, FC_POINTWISE_erf, FC_POINTWISE_power

    ctypedef struct fc_stump:
        double* score
        int64_t* bin
        const uint8_t* bins
        const double* weight
        const int64_t* start
        double* sums
        int64_t classes
        int32_t gini
