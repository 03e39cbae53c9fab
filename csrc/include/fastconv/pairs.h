/* Pairs of bfloat16 numbers, rounded from float (to nearest, ties to even), and sums of their products. Of float alone:
 * in the table of double the kernels do nothing. A pair is 32 bits, its first number in the lower half, and offsets
 * count pairs. conv_tile_pairs and outer_tile_pairs are conv_tile and outer_tile whose x, w and dy hold pairs, and whose
 * bias, y and dw hold floats: `depth` and `pixels` count pairs, and for each the product of the second numbers is added
 * by a fused multiply-add, then that of the first ones. outer_tile_pairs takes no lists. */
#pragma once
#include <stdint.h>

/* dst[i * ld + j] = (src[i * si + 2 j * sj], src[i * si + (2 j + 1) * sj]) for 0 <= i < rows, 0 <= 2 j < columns; the
 * second number is 0 where 2 j + 1 == columns. */
typedef struct fc_pair_columns {
    void* dst;
    const void* src;
    int64_t rows, columns, ld, si, sj;
} fc_pair_columns;

/* dst[i * ld + c] = (src[row[2 i] + c], src[row[2 i + 1] + c]) for 0 <= 2 i < rows, 0 <= c < columns; the second number is
 * 0 where 2 i + 1 == rows. */
typedef struct fc_pair_rows {
    void* dst;
    const void* src;
    const int64_t* row; /* (rows,); NULL: row i lies at i * step */
    int64_t rows, columns, ld, step;
} fc_pair_rows;

/* dst[j * NR + c] = (src[c * column + 2 j], src[c * column + 2 j + 1]) for 0 <= 2 j < depth, 0 <= c < columns <= NR; the
 * second number is 0 where 2 j + 1 == depth, and both are for columns <= c < NR. */
typedef struct fc_pack_pairs {
    void* dst;
    const void* src;
    int64_t depth, columns, column;
} fc_pack_pairs;
