# What the C++ side offers: the tables of micro-kernels and their arguments (csrc/include/fastconv).
# The structs are listed by the fields that Cython touches; sizes and offsets count elements.

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
        int64_t pixels, listed, taps, depth, columns
        int32_t accumulate

    ctypedef struct fc_outer_tile:
        const void* x
        const int64_t* xpixel
        const int64_t* row
        const void* dy
        const int64_t* ypixel
        void* dw
        int64_t pixels, rows, columns, ld
        const int64_t* xnext
        const int64_t* ynext
        int64_t next
        int32_t accumulate

    ctypedef struct fc_blocks:
        const int32_t* lane
        int64_t count, depth
        int64_t xlanes, ylanes, last_xlanes, last_ylanes

    ctypedef struct fc_grouped_row:
        const void* x
        const int64_t* row
        const int64_t* wrow
        const void* w
        const void* bias
        void* y
        int64_t rows, taps, pixels, step, spread, low, high
        int64_t xpixel, ypixel, wblock
        fc_blocks blocks

    ctypedef struct fc_grouped_outer:
        const void* x
        const int64_t* row
        const void* dy
        const int64_t* yrow
        void* dw
        int64_t lines, rows, taps, pixels, step, spread, low, high
        int64_t xpixel, ypixel, wblock
        fc_blocks blocks

    ctypedef struct fc_copy2d:
        void* dst
        const void* src
        int64_t rows, columns, padded, ld, dj, si, sj

    enum: FC_FEW_ROWS

    ctypedef struct fc_few_rows:
        const void* x
        const void* w
        const void* bias
        void* y
        int64_t rows, depth, columns, ldx, ldw, ldy
        int32_t by_rows

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

    ctypedef struct fc_map:
        void* y
        const void* x[5]  # FC_MAP_INPUTS
        int64_t count
        double scalar[2]

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

    ctypedef struct fc_reduce:
        const void* x
        const void* dy
        const void* mean
        void* first
        void* second
        int64_t rows, columns, ldx, lddy

    ctypedef struct fc_moments:
        const void* x
        double* start
        double* offset
        double* square
        int64_t count, rows, columns, ldx

    ctypedef struct fc_normalise:
        void* y
        const void* x
        const void* dy
        const void* mean
        const void* scale
        const void* shift
        const void* slope
        int64_t rows, columns, ldy, ldx, lddy

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
        int64_t d, h_first, h_last, columns, channels
        int64_t target_step[2]
        int64_t source_step[3]
        int64_t index_step[3]
        int64_t divisor, index_bytes, stream

    ctypedef struct fc_scatter_row:
        void* dx
        const void* dy
        const int64_t* index
        int32_t* outside
        int64_t pixels, channels, pixel, plane
        int64_t dy_pixel, dy_channel, index_pixel, index_channel

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
        double lr, weight_decay
        double momentum, dampening
        double beta1, beta2, eps, correction, shrink
        int32_t nesterov, start

    int FC_WINOGRAD_4X3, FC_WINOGRAD_4X5

    ctypedef struct fc_winograd:
        void* pixels
        void* planes
        const void* bias
        int64_t row, column, plane
        int64_t first_row, last_row, first_column, last_column
        int64_t count
        int32_t form

    ctypedef struct fc_kernels:
        int64_t width, mr, nr
        void (*conv_tile)(const fc_conv_tile*) noexcept nogil
        void (*outer_tile)(const fc_outer_tile*) noexcept nogil
        void (*few_rows)(const fc_few_rows*) noexcept nogil
        void (*grouped_row)(const fc_grouped_row*) noexcept nogil
        void (*grouped_outer)(const fc_grouped_outer*) noexcept nogil
        void (*copy2d)(const fc_copy2d*) noexcept nogil
        void (*pack_panel)(const fc_pack_panel*) noexcept nogil
        void (*gather)(const fc_gather*) noexcept nogil
        void (*accumulate)(const fc_accumulate*) noexcept nogil
        void (*winograd_input)(const fc_winograd*) noexcept nogil
        void (*winograd_filter)(const fc_winograd*) noexcept nogil
        void (*winograd_expand)(const fc_winograd*) noexcept nogil
        void (*winograd_output)(const fc_winograd*) noexcept nogil
        void (*winograd_scatter)(const fc_winograd*) noexcept nogil
        void (*winograd_filter_gradient)(const fc_winograd*) noexcept nogil
        void (*add)(const fc_map*) noexcept nogil
        void (*subtract)(const fc_map*) noexcept nogil
        void (*multiply)(const fc_map*) noexcept nogil
        void (*divide)(const fc_map*) noexcept nogil
        void (*scale)(const fc_map*) noexcept nogil
        void (*relu_forward)(const fc_map*) noexcept nogil
        void (*relu_backward)(const fc_map*) noexcept nogil
        void (*leaky_relu_forward)(const fc_map*) noexcept nogil
        void (*leaky_relu_backward)(const fc_map*) noexcept nogil
        void (*sigmoid_forward)(const fc_map*) noexcept nogil
        void (*sigmoid_backward)(const fc_map*) noexcept nogil
        void (*tanh_forward)(const fc_map*) noexcept nogil
        void (*tanh_backward)(const fc_map*) noexcept nogil
        void (*mse_forward)(const fc_map*) noexcept nogil
        void (*mse_backward)(const fc_map*) noexcept nogil
        void (*bce_with_logits_forward)(const fc_map*) noexcept nogil
        void (*bce_with_logits_backward)(const fc_map*) noexcept nogil
        void (*masked)(const fc_masked*) noexcept nogil
        void (*random_mask)(const fc_random_mask*) noexcept nogil
        void (*softmax_forward)(const fc_channels*) noexcept nogil
        void (*softmax_backward)(const fc_channels*) noexcept nogil
        void (*log_softmax_forward)(const fc_channels*) noexcept nogil
        void (*log_softmax_backward)(const fc_channels*) noexcept nogil
        void (*softmax_forward_rows)(const fc_channels*) noexcept nogil
        void (*softmax_backward_rows)(const fc_channels*) noexcept nogil
        void (*log_softmax_forward_rows)(const fc_channels*) noexcept nogil
        void (*log_softmax_backward_rows)(const fc_channels*) noexcept nogil
        void (*nll_forward_rows)(const fc_targets*) noexcept nogil
        void (*nll_backward_rows)(const fc_targets*) noexcept nogil
        void (*cross_entropy_backward_rows)(const fc_targets*) noexcept nogil
        void (*nll_forward)(const fc_targets*) noexcept nogil
        void (*nll_backward)(const fc_targets*) noexcept nogil
        void (*cross_entropy_backward)(const fc_targets*) noexcept nogil
        void (*sum_rows)(const fc_reduce*) noexcept nogil
        void (*moment_rows)(const fc_moments*) noexcept nogil
        void (*gradient_rows)(const fc_reduce*) noexcept nogil
        void (*normalise_rows)(const fc_normalise*) noexcept nogil
        void (*normalise_gradient_rows)(const fc_normalise*) noexcept nogil
        void (*pool_windows)(const fc_pool_windows*) noexcept nogil
        void (*conv_pool)(const fc_conv_pool*) noexcept nogil
        void (*unpool_windows)(const fc_unpool_windows*) noexcept nogil
        void (*live_channels)(const fc_live*) noexcept nogil
        void (*live_places)(const fc_live*) noexcept nogil
        void (*live_outer)(const fc_live_outer*) noexcept nogil
        void (*live_scatter)(const fc_live_scatter*) noexcept nogil
        void (*masked_outer)(const fc_masked_outer*) noexcept nogil
        void (*max_pool)(const fc_pool_box*) noexcept nogil
        void (*max_pool_backward)(const fc_pool_box*) noexcept nogil
        void (*max_pool_scatter)(const fc_scatter_row*) noexcept nogil
        void (*avg_pool)(const fc_pool_box*) noexcept nogil
        void (*sgd_step)(const fc_step*) noexcept nogil
        void (*adam_step)(const fc_step*) noexcept nogil

    int FC_SCALAR, FC_AVX2, FC_AVX512, FC_NEON, FC_F32, FC_F64
    int fc_isa_available(int isa)
    const fc_kernels* fc_kernels_for(int isa, int dtype)
