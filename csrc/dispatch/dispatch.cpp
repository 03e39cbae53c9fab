// Which instruction sets this processor and system run, and the tables that this build holds for them.
#include "fastconv/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#define FC_X86 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace fastconv {
extern const fc_kernels scalar_tables[FC_DTYPE_COUNT];
#if defined(FC_X86)
extern const fc_kernels avx2_tables[FC_DTYPE_COUNT];
extern const fc_kernels avx512_tables[FC_DTYPE_COUNT];
void avx512_bf16_pairs(fc_kernels* table);
#elif defined(__aarch64__) || defined(_M_ARM64)
extern const fc_kernels neon_tables[FC_DTYPE_COUNT];
#endif

namespace {

#if defined(FC_X86)
struct Registers {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r;
#if defined(_MSC_VER)
    int out[4];
    __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
    r.eax = static_cast<unsigned>(out[0]), r.ebx = static_cast<unsigned>(out[1]);
    r.ecx = static_cast<unsigned>(out[2]), r.edx = static_cast<unsigned>(out[3]);
#else
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
    return r;
}

// XCR0: which register states the operating system saves.
unsigned enabled_states() {
#if defined(_MSC_VER)
    return static_cast<unsigned>(_xgetbv(0));
#else
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

bool x86_runs(int isa) {
    const Registers one = cpuid(1, 0), seven = cpuid(7, 0);
    const bool fma = one.ecx >> 12 & 1, osxsave = one.ecx >> 27 & 1, avx = one.ecx >> 28 & 1;
    const bool avx2 = seven.ebx >> 5 & 1, avx512f = seven.ebx >> 16 & 1;
    if (!osxsave || !avx) return false;
    const unsigned states = enabled_states();
    const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6;
    if (isa == FC_AVX2) return ymm && avx2 && fma;
    if (!zmm || !avx2 || !fma || !avx512f) return false;
    if (isa == FC_AVX512) return true;
    const bool avx512bw = seven.ebx >> 30 & 1, avx512_bf16 = seven.eax >= 1 && (cpuid(7, 1).eax >> 5 & 1);
    return avx512bw && avx512_bf16;
}

// The tables of AVX-512, with kernels of pairs of their own for float32.
const fc_kernels* avx512_bf16_tables() {
    static const struct Tables {
        fc_kernels of[FC_DTYPE_COUNT];
        Tables() : of{avx512_tables[FC_F32], avx512_tables[FC_F64]} { avx512_bf16_pairs(&of[FC_F32]); }
    } tables;
    return tables.of;
}
#endif

const fc_kernels* tables(int isa) {
    switch (isa) {
        case FC_SCALAR: return scalar_tables;
#if defined(FC_X86)
        case FC_AVX2: return x86_runs(FC_AVX2) ? avx2_tables : nullptr;
        case FC_AVX512: return x86_runs(FC_AVX512) ? avx512_tables : nullptr;
        case FC_AVX512_BF16: return x86_runs(FC_AVX512_BF16) ? avx512_bf16_tables() : nullptr;
#elif defined(__aarch64__) || defined(_M_ARM64)
        case FC_NEON: return neon_tables;
#endif
        default: return nullptr;
    }
}

}  // namespace
}  // namespace fastconv

extern "C" int fc_isa_available(int isa) { return fastconv::tables(isa) != nullptr; }

extern "C" const fc_kernels* fc_kernels_for(int isa, int dtype) {
    const fc_kernels* found = fastconv::tables(isa);
    return found && dtype >= 0 && dtype < FC_DTYPE_COUNT ? found + dtype : nullptr;
}
