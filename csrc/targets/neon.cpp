// The kernels compiled for neon: this file's compiler flags and these includes, no logic.
#define FC_WITH_NEON
#include "kernels/all.hpp"

FC_DEFINE_TABLES(neon)
