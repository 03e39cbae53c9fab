/* Arguments of sums over rows and of normalisation. Matrices have neighbouring columns; `mean`, `scale`, `shift`,
 * `slope`, `first` and `second` hold one value a column. Strides count elements. */
#pragma once
#include <stdint.h>

/* first[c] += sum over rows of f(x, dy), second[c] += sum over rows of g(x, dy); which f and g: kernels/norm.hpp. */
typedef struct fc_reduce {
    const void* x;
    const void* dy;
    const void* mean;
    const void* scale;
    void* first;
    void* second;
    int64_t rows, columns, ldx, lddy;
} fc_reduce;

/* y[r, c] = f(x[r, c], dy[r, c], column c's constants) */
typedef struct fc_normalise {
    void* y;
    const void* x;
    const void* dy;
    const void* mean;
    const void* scale;
    const void* shift;
    const void* slope;
    int64_t rows, columns, ldy, ldx, lddy;
} fc_normalise;
