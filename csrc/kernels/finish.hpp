// What a finished sum goes through on its way to memory.
#pragma once

namespace fastconv {

// max(0, a) where asked for; NaN stays NaN.
template <class V>
static inline typename V::Reg activated(typename V::Reg a, bool relu) {
    return relu ? V::max(V::zero(), a) : a;
}

// The gradient in front of a ReLU with the output y: 0 where y <= 0, dy also where y is NaN.
template <class V>
static inline typename V::Reg masked(typename V::Reg dy, typename V::Reg y) {
    return V::select(V::not_less_equal(y, V::zero()), dy, V::zero());
}

}  // namespace fastconv
