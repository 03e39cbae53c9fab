// The kernels of pairs compiled for avx512_bf16: this file's compiler flags and these includes, no logic. The others are
// those of avx512.
#define FC_WITH_AVX512
#define FC_WITH_AVX512_BF16
#include "kernels/all.hpp"

FC_DEFINE_PAIRS(avx512_bf16)
