// Builds one instruction set's tables from kernels.def. Included by each targets/*.cpp after the kernels.
#pragma once
#include "dispatch/blocks.hpp"
#include "fastconv/kernels.h"

namespace fastconv {

template <class V>
constexpr fc_kernels make_table() {
    return fc_kernels{
        V::width,
        Blocks<V>::mr,
        Blocks<V>::nv * V::width,
#define FC_KERNEL(name, args) &name<V>,
#include "dispatch/kernels.def"
#undef FC_KERNEL
    };
}

}  // namespace fastconv

#define FC_DEFINE_TABLES(target)                                                        \
    namespace fastconv {                                                                \
    extern const fc_kernels target##_tables[FC_DTYPE_COUNT];                            \
    const fc_kernels target##_tables[FC_DTYPE_COUNT] = {make_table<target::VecF32>(),   \
                                                        make_table<target::VecF64>()};  \
    }
