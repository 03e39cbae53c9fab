# What the C++ side offers: the tables of micro-kernels, and with them their arguments.

from libc.stdint cimport int64_t

from fastconv.backends.cpu._arguments cimport *
from fastconv.backends.cpu._norm_arguments cimport *
from fastconv.backends.cpu._winograd_arguments cimport *


cdef extern from "fastconv/kernels.h" nogil:
    ctypedef struct fc_kernels:
        int64_t width, mr, nr, wide
        void (*conv_tile)(const fc_conv_tile*) noexcept nogil
        void (*outer_tile)(const fc_outer_tile*) noexcept nogil
        void (*few_rows)(const fc_few_rows*) noexcept nogil
        void (*narrow)(const fc_narrow*) noexcept nogil
        void (*grouped_row)(const fc_grouped_row*) noexcept nogil
        void (*grouped_outer)(const fc_grouped_outer*) noexcept nogil
        void (*grouped_squares)(const fc_grouped_squares*) noexcept nogil
        void (*grouped_squares_outer)(const fc_grouped_squares*) noexcept nogil
        void (*depthwise)(const fc_depthwise*) noexcept nogil
        void (*depthwise_adjoint)(const fc_depthwise*) noexcept nogil
        void (*depthwise_lines)(const fc_depthwise*) noexcept nogil
        void (*depthwise_outer)(const fc_depthwise_outer*) noexcept nogil
        void (*copy2d)(const fc_copy2d*) noexcept nogil
        void (*transpose_bytes)(const fc_transpose*) noexcept nogil
        void (*pack_panel)(const fc_pack_panel*) noexcept nogil
        void (*gather)(const fc_gather*) noexcept nogil
        void (*accumulate)(const fc_accumulate*) noexcept nogil
        void (*conv_tile_pairs)(const fc_conv_tile*) noexcept nogil
        void (*outer_tile_pairs)(const fc_outer_tile*) noexcept nogil
        void (*pair_columns)(const fc_pair_columns*) noexcept nogil
        void (*pair_rows)(const fc_pair_rows*) noexcept nogil
        void (*pack_pairs)(const fc_pack_pairs*) noexcept nogil
        void (*winograd_input)(const fc_winograd*) noexcept nogil
        void (*winograd_filter)(const fc_winograd*) noexcept nogil
        void (*winograd_expand)(const fc_winograd*) noexcept nogil
        void (*winograd_output)(const fc_winograd*) noexcept nogil
        void (*winograd_scatter)(const fc_winograd*) noexcept nogil
        void (*winograd_filter_gradient)(const fc_winograd*) noexcept nogil
        void (*winograd_pool)(const fc_winograd_windows*) noexcept nogil
        void (*winograd_unpool)(const fc_winograd_windows*) noexcept nogil
        void (*winograd_line_input)(const fc_winograd_line*) noexcept nogil
        void (*winograd_line_filter)(const fc_winograd_line*) noexcept nogil
        void (*winograd_lines)(const fc_winograd_lines*) noexcept nogil
        void (*winograd_lines_pool)(const fc_winograd_lines*) noexcept nogil
        void (*add)(const fc_map*) noexcept nogil
        void (*subtract)(const fc_map*) noexcept nogil
        void (*multiply)(const fc_map*) noexcept nogil
        void (*divide)(const fc_map*) noexcept nogil
        void (*scale)(const fc_map*) noexcept nogil
        void (*add_relu)(const fc_map*) noexcept nogil
        void (*maximum)(const fc_map*) noexcept nogil
        void (*matches)(const fc_map*) noexcept nogil
        void (*power)(const fc_map*) noexcept nogil
        void (*power_slope)(const fc_map*) noexcept nogil
        void (*power_exponent_slope)(const fc_map*) noexcept nogil
        void (*pointwise_forward)(const fc_map*) noexcept nogil
        void (*pointwise_backward)(const fc_map*) noexcept nogil
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
        void (*moment_lines)(const fc_moments*) noexcept nogil
        void (*gradient_lines)(const fc_reduce*) noexcept nogil
        void (*normalise_rows)(const fc_normalise*) noexcept nogil
        void (*normalise_gradient_rows)(const fc_normalise*) noexcept nogil
        void (*normalise_adjoint_rows)(const fc_normalise_adjoint*) noexcept nogil
        void (*max_rows)(const fc_reduce*) noexcept nogil
        void (*min_rows)(const fc_reduce*) noexcept nogil
        void (*max_columns)(const fc_reduce*) noexcept nogil
        void (*min_columns)(const fc_reduce*) noexcept nogil
        void (*lrn_forward)(const fc_local_response*) noexcept nogil
        void (*lrn_forward_rows)(const fc_local_response*) noexcept nogil
        void (*lrn_backward)(const fc_local_response*) noexcept nogil
        void (*lrn_backward_rows)(const fc_local_response*) noexcept nogil
        void (*weighted_rows)(const fc_weighted_rows*) noexcept nogil
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
        void (*max_pool_expand)(const fc_pool_expand*) noexcept nogil
        void (*max_pool_scatter)(const fc_scatter_row*) noexcept nogil
        void (*avg_pool)(const fc_pool_box*) noexcept nogil
        void (*sgd_step)(const fc_step*) noexcept nogil
        void (*adam_step)(const fc_step*) noexcept nogil
        void (*stump)(const fc_stump*) noexcept nogil

    int FC_SCALAR, FC_AVX2, FC_AVX512, FC_NEON, FC_F32, FC_F64
    int fc_isa_available(int isa)
    const fc_kernels* fc_kernels_for(int isa, int dtype)
