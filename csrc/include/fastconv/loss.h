/* Arguments of the kernels over channels: softmax and the losses on it. Matrices are (channels, positions), a row of
 * neighbouring positions after the other; to the kernels `*_rows` they are (positions, channels), with neighbouring
 * channels. Strides `ld` count elements from a row to the next. Every position is computed by itself. */
#pragma once
#include <stdint.h>

/* y = f(a) or f(a, b) */
typedef struct fc_channels {
    void* y;
    const void* a;
    const void* b;
    int64_t channels, positions, ldy, lda, ldb;
} fc_channels;

/* Negative log-likelihood. Forward: log_prob -> loss, scale. Backward: dloss (and log_prob for cross-entropy) -> y. */
typedef struct fc_targets {
    void* y;
    const void* log_prob;
    const int64_t* target;
    const void* weight; /* (channels,) or NULL */
    void* loss;         /* (positions,) side by side, as scale is */
    void* scale;
    const void* dloss;
    int64_t channels, positions, ldy, ldl, target_step, dloss_step, ignore_index;
    double smoothing;
} fc_targets;
