/* Arguments of kernels that treat every element by itself. Pointers are to the table's dtype, sizes count elements. */
#pragma once
#include <stdint.h>

enum { FC_MAP_INPUTS = 5, FC_MAP_SCALARS = 2 };

/* y[r * count + i] = f(x[0][r * step[0] + i], x[1][r * step[1] + i], ...) for 0 <= r < rows, 0 <= i < count; which f,
 * and what `scalar` and `kind` mean to it: kernels/elementwise.hpp. y may be one of the x, and is not where `stream` asks for
 * stores past the caches. */
typedef struct fc_map {
    void* y;
    const void* x[FC_MAP_INPUTS];
    int64_t step[FC_MAP_INPUTS];
    int64_t rows, count;
    double scalar[FC_MAP_SCALARS];
    int32_t stream, kind;
} fc_map;

/* The kinds of pointwise_forward and pointwise_backward; scalar[0] and scalar[1] are the parameters a and b of
 * backends/base. Beside them stands the power, x^b, times a in the gradient. */
#define FC_POINTWISE_KINDS(K)                                                                                  \
    K(elu) K(gelu) K(gelu_tanh) K(silu) K(mish) K(hardswish) K(hardsigmoid) K(softplus) K(softsign) K(clip)    \
    K(hardtanh) K(exp) K(log) K(sqrt) K(abs) K(reciprocal) K(erf)
enum {
#define FC_POINTWISE_VALUE(name) FC_POINTWISE_##name,
    FC_POINTWISE_KINDS(FC_POINTWISE_VALUE)
#undef FC_POINTWISE_VALUE
    FC_POINTWISE_power
};

/* y[i] = mask[i] ? x[i] * factor : 0 for 0 <= i < count. */
typedef struct fc_masked {
    void* y;
    const void* x;
    const uint8_t* mask;
    int64_t count;
    double factor;
} fc_masked;

/* mask[i] = word (first + i) of the Philox4x64-10 stream of `key` >= threshold, for 0 <= i < count; 4 divides first. */
typedef struct fc_random_mask {
    uint8_t* mask;
    int64_t first, count;
    uint64_t key[2];
    uint64_t threshold;
} fc_random_mask;
