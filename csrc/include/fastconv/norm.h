/* Arguments of sums over rows and of normalisation. Matrices have neighbouring columns; `mean`, `scale`, `shift`,
 * `slope`, `first`, `second`, `start`, `offset` and `square` hold one value a column. Strides count elements. */
#pragma once
#include <stdint.h>

/* first[c] += sum over rows of f(x, dy), second[c] += sum over rows of g(x, dy); which f and g: kernels/norm.hpp.
 * With `scale`, dy counts as 0 where a ReLU behind normalise_rows with these constants let nothing through.
 * max_columns and min_columns set first[r] for each row instead, of one column or more; gradient_lines first[r], the sum of
 * dy over a row, and second[r], that of dy * (x - mean[r]). */
typedef struct fc_reduce {
    const void* x;
    const void* dy;
    const void* mean; /* or NULL */
    void* first;
    void* second;
    int64_t rows, columns, ldx, lddy;
    const void* scale; /* or NULL */
    const void* shift;
} fc_reduce;

/* The mean of each column, start + offset, and the sum of squared distances from it. `count` rows are in them already,
 * and the matrix' rows are taken in; with none (then they need not be set), start becomes a value near the mean.
 * moment_lines sets the same of each row; `count` does not matter. */
typedef struct fc_moments {
    const void* x;
    double* start;
    double* offset;
    double* square;
    int64_t count, rows, columns, ldx;
} fc_moments;

/* y[r, c] = f(x[r, c], dy[r, c], column c's constants); `stream`: x comes from memory, and with 1 y is
 * stored past the caches, with 2 it is not.
 * normalise_rows           (x - mean) * scale + shift, + dy unless NULL, then max(0, .) with `relu`
 * normalise_gradient_rows  dy * scale - ((x - mean) * slope + shift); with `bias`, dy counts as 0 where a ReLU behind
 *                          (x - mean) * scale + bias let nothing through; + residual unless NULL
 * With `by_row` the constants are those of rows, one value a row. */
typedef struct fc_normalise {
    void* y;
    const void* x;
    const void* dy;
    const void* mean;
    const void* scale;
    const void* shift;
    const void* slope;
    int64_t rows, columns, ldy, ldx, lddy;
    int32_t stream, relu;
    const void* bias;     /* or NULL */
    const void* residual; /* or NULL */
    int64_t ldr;
    int32_t by_row;
} fc_normalise;

/* The gradient in front of normalise_rows with `relu`, but for what mean and scale owe x: with dz = dy, or 0 where that
 * let nothing through, first[c] += dz and second[c] += dz * (x - mean), one row after the other, and
 * y = dz * scale + residual (unless NULL; it may be y). */
typedef struct fc_normalise_adjoint {
    void* y;
    const void* x;
    const void* dy;
    const void* residual;
    const void* mean;
    const void* scale;
    const void* shift;
    void* first;
    void* second;
    int64_t rows, columns, ldy, ldx, lddy, ldr;
} fc_normalise_adjoint;

/* Local response normalisation: scale = k + alpha * (the sum of x^2 over channels c - before to c - before + size - 1,
 * those that exist), y = x * scale^-beta. Backward `y` is the gradient, from dy, x and scale, and the window the one of
 * the adjoint. A matrix is (channels, positions), or (positions, channels) in the kernels named *_rows; its rows are ld
 * elements apart. `terms`: room for (channels + size) * width elements, and a vector. */
typedef struct fc_local_response {
    void* y;
    void* scale;
    const void* x;
    const void* dy;
    void* terms;
    int64_t channels, positions, size, before;
    int64_t ldy, ldscale, ldx, lddy;
    double alpha, beta, k;
} fc_local_response;
