// The kernels compiled for scalar: this file's compiler flags and these includes, no logic.
#include "kernels/all.hpp"

FC_DEFINE_TABLES(scalar)
