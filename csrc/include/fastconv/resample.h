/* Arguments of weighted sums of rows. Pointers are to the table's dtype, sizes and offsets count elements. */
#pragma once
#include <stdint.h>

/* y[o * ldy + c] = sum of weight[t] * x[row[t] * ldx + c] over start[o] <= t < start[o + 1], for 0 <= o < outputs and
 * 0 <= c < columns; added to y with `accumulate`. With `parts`, x[i] stands for the sum of share[p] * x[offset[p] + i]
 * over 0 <= p < parts. */
typedef struct fc_weighted_rows {
    void* y;
    const void* x;
    const int64_t* start; /* (outputs + 1,) */
    const int64_t* row;
    const void* weight;
    int64_t outputs, columns, ldy, ldx;
    int32_t accumulate;
    int32_t parts; /* or 0 */
    const int64_t* offset;
    const void* share;
} fc_weighted_rows;
