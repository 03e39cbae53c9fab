// The processor's floating-point control and status, and the state that kernels run in. These are the only
// intrinsics outside csrc/simd: they concern the thread, not a vector.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#elif defined(_M_ARM64)
#include <intrin.h>
#endif

namespace fastconv {

#if defined(__x86_64__) || defined(_M_X64)

// MXCSR: flush to zero (bit 15), denormals are zero (bit 6), the six exceptions masked (bits 7 to 12), to nearest.
constexpr std::uint64_t kKernelFloatState = 0x8000 | 0x0040 | 0x1F80;
inline std::uint64_t read_float_state() { return _mm_getcsr(); }
inline void write_float_state(std::uint64_t state) { _mm_setcsr(static_cast<unsigned>(state)); }
inline void pause_briefly() { _mm_pause(); }

#elif defined(__aarch64__)

// FPCR: flush to zero (bit 24), everything else 0: no traps, to nearest. FPSR (upper half): no sticky flags.
constexpr std::uint64_t kKernelFloatState = std::uint64_t{1} << 24;
inline std::uint64_t read_float_state() {
    std::uint64_t control, status;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(status));
    return (control & 0xFFFFFFFF) | status << 32;
}
inline void write_float_state(std::uint64_t state) {
    __asm__ volatile("msr fpcr, %0" : : "r"(state & 0xFFFFFFFF));
    __asm__ volatile("msr fpsr, %0" : : "r"(state >> 32));
}
inline void pause_briefly() { __asm__ volatile("isb"); }  // yield does nothing on most cores

#elif defined(_M_ARM64)

constexpr std::uint64_t kKernelFloatState = std::uint64_t{1} << 24;
inline std::uint64_t read_float_state() {
    return (_ReadStatusReg(ARM64_FPCR) & 0xFFFFFFFF) | static_cast<std::uint64_t>(_ReadStatusReg(ARM64_FPSR)) << 32;
}
inline void write_float_state(std::uint64_t state) {
    _WriteStatusReg(ARM64_FPCR, static_cast<std::int64_t>(state & 0xFFFFFFFF));
    _WriteStatusReg(ARM64_FPSR, static_cast<std::int64_t>(state >> 32));
}
inline void pause_briefly() { __isb(_ARM64_BARRIER_SY); }

#else

constexpr std::uint64_t kKernelFloatState = 0;
inline std::uint64_t read_float_state() { return 0; }
inline void write_float_state(std::uint64_t) {}
inline void pause_briefly() {}

#endif

// The kernels' floating-point state for a scope; afterwards the caller's own, sticky flags included.
class FloatStateScope {
public:
    FloatStateScope() : saved_(read_float_state()) { write_float_state(kKernelFloatState); }
    ~FloatStateScope() { write_float_state(saved_); }
    FloatStateScope(const FloatStateScope&) = delete;
    FloatStateScope& operator=(const FloatStateScope&) = delete;

private:
    std::uint64_t saved_;
};

}  // namespace fastconv
