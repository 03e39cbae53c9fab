// The kernels compiled for avx2: this file's compiler flags and these includes, no logic.
#define FC_WITH_AVX2
#include "kernels/all.hpp"

FC_DEFINE_TABLES(avx2)
