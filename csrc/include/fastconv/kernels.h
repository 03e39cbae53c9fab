/* What Cython may call: a table of micro-kernels for each instruction set and dtype, filled from dispatch/kernels.def. */
#pragma once
#include <stdint.h>

#include "fastconv/conv.h"
#include "fastconv/elementwise.h"
#include "fastconv/grouped.h"
#include "fastconv/loss.h"
#include "fastconv/norm.h"
#include "fastconv/optim.h"
#include "fastconv/pairs.h"
#include "fastconv/pool.h"
#include "fastconv/resample.h"
#include "fastconv/stump.h"
#include "fastconv/unit.h"
#include "fastconv/winograd.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fc_isa { FC_SCALAR = 0, FC_AVX2 = 1, FC_AVX512 = 2, FC_NEON = 3, FC_AVX512_BF16 = 4, FC_ISA_COUNT = 5 };
enum fc_dtype { FC_F32 = 0, FC_F64 = 1, FC_DTYPE_COUNT = 2 };

typedef struct fc_kernels {
    int64_t width; /* elements a vector */
    int64_t mr;    /* pixels a register tile of conv_tile */
    int64_t nr;    /* columns a packed panel of weights */
    int64_t wide;  /* columns that conv_tile takes at most: one or two panels */
#define FC_KERNEL(name, args) void (*name)(const args*);
#include "dispatch/kernels.def"
#undef FC_KERNEL
} fc_kernels;

/* 1 where this build holds the instruction set and the processor and system run it. */
int fc_isa_available(int isa);

/* The table of an available instruction set, else NULL. */
const fc_kernels* fc_kernels_for(int isa, int dtype);

#ifdef __cplusplus
}
#endif
