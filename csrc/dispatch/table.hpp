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
        most_vectors<V> * V::width,
#define FC_KERNEL(name, args) &name<V>,
#include "dispatch/kernels.def"
#undef FC_KERNEL
    };
}

// The kernels that multiply pairs, in a table that is filled: what an instruction set with such products has of its own.
template <class V>
void put_pairs(fc_kernels* table) {
    table->conv_tile_pairs = &conv_tile_pairs<V>;
    table->outer_tile_pairs = &outer_tile_pairs<V>;
    table->pair_columns = &pair_columns<V>;
    table->pair_rows = &pair_rows<V>;
    table->pack_pairs = &pack_pairs<V>;
}

}  // namespace fastconv

#define FC_DEFINE_PAIRS(target)                                                          \
    namespace fastconv {                                                                 \
    void target##_pairs(fc_kernels* table);                                              \
    void target##_pairs(fc_kernels* table) { put_pairs<target::VecF32>(table); }         \
    }

#define FC_DEFINE_TABLES(target)                                                        \
    namespace fastconv {                                                                \
    extern const fc_kernels target##_tables[FC_DTYPE_COUNT];                            \
    const fc_kernels target##_tables[FC_DTYPE_COUNT] = {make_table<target::VecF32>(),   \
                                                        make_table<target::VecF64>()};  \
    }
