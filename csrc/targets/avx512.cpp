// The kernels compiled for avx512: this file's compiler flags and these includes, no logic.
#define FC_WITH_AVX512
#include "kernels/all.hpp"

FC_DEFINE_TABLES(avx512)
