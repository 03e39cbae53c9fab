// Compares the convolution kernels of an instruction set with the scalar ones on random problems, without Python: for
// processors that the test machine is not, under an emulator. By hand, for Arm on x86:
//
//   aarch64-linux-gnu-g++ -std=c++17 -O2 -static -ffp-contract=off -Icsrc -Icsrc/include tests/csrc/compare_tables.cpp
//       csrc/dispatch/dispatch.cpp csrc/targets/scalar.cpp csrc/targets/neon.cpp -o compare && qemu-aarch64 ./compare 3
//
// The argument is the number of the instruction set in enum fc_isa. Exit status 0: all agree.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "fastconv/kernels.h"

namespace {

std::mt19937 source(7);

template <class T>
std::vector<T> random_values(size_t count) {
    std::normal_distribution<T> normal;
    std::vector<T> values(count);
    for (T& value : values) value = normal(source);
    return values;
}

std::vector<int64_t> steps(int64_t count, int64_t step) {
    std::vector<int64_t> list(count);
    for (int64_t i = 0; i < count; ++i) list[i] = i * step;
    return list;
}

template <class T>
bool agree(const char* kernel, const std::vector<T>& a, const std::vector<T>& b) {
    for (size_t i = 0; i < a.size(); ++i) {
        if (!(std::fabs(a[i] - b[i]) <= T(1e-5) * (1 + std::fabs(b[i])))) {
            std::printf("%s, element %zu of %zu: %g, scalar %g\n", kernel, i, a.size(), double(a[i]), double(b[i]));
            return false;
        }
    }
    return true;
}

// Sizes of one random problem; `columns` fits the narrower of both register tiles.
template <class T>
bool compare_once(const fc_kernels& tested, const fc_kernels& scalar) {
    auto size = [](int64_t most) { return int64_t(1 + source() % most); };
    const int64_t pixels = size(20), taps = size(4), depth = size(9), rows = size(20), channels = size(40);
    const int64_t columns = 1 + source() % tested.nr;
    const auto x = random_values<T>(64 * (pixels + taps + 1) + depth), start = random_values<T>(64 * 64);
    const auto pixel = steps(pixels, 64), ypixel = steps(pixels, 64), tap = steps(taps, 64), row = steps(rows, 1);
    bool good = true;

    std::vector<T> y[2] = {start, start};
    for (int i = 0; i < 2 && columns <= scalar.nr; ++i) {
        const fc_kernels& table = i ? scalar : tested;
        std::vector<T> w(taps * depth * table.nr);
        for (int64_t k = 0; k < taps * depth; ++k)
            for (int64_t c = 0; c < columns; ++c) w[k * table.nr + c] = T(std::sin(double(k * 31 + c)));
        const auto wtap = steps(taps, depth * table.nr);
        const fc_conv_tile call{x.data(), pixel.data(), tap.data(), w.data(), wtap.data(), nullptr, y[i].data(),
                                ypixel.data(), pixels, taps, depth, columns, 1};
        table.conv_tile(&call);
    }
    good &= agree("conv_tile", y[0], y[1]);

    for (int i = 0; i < 2; ++i) {
        y[i] = start;
        const fc_outer_tile call{x.data(), pixel.data(), row.data(), x.data(), ypixel.data(), y[i].data(), pixels, rows,
                                 channels, 64, 1};
        (i ? scalar : tested).outer_tile(&call);
    }
    good &= agree("outer_tile", y[0], y[1]);

    for (int i = 0; i < 2; ++i) {
        y[i] = start;
        const fc_accumulate call{y[i].data(), x.data(), channels};
        (i ? scalar : tested).accumulate(&call);
    }
    return good && agree("accumulate", y[0], y[1]);
}

// Rows of groups of `depth` channels in and out, one block, against plain loops: forward and weight gradient.
template <class T>
bool compare_grouped(const fc_kernels& tested) {
    const int64_t W = tested.width, depth = 1 + source() % W, lanes = W / depth * depth;
    const int64_t pixels = 1 + source() % 20, taps = 1 + source() % 5, step = 1 + source() % 2, none = 0;
    const int64_t positions = (pixels - 1) * step + taps - 2;  // the first and the last one are padding
    const auto x = random_values<T>(64 * (pixels * 2 + 8)), w = random_values<T>(depth * taps * W);
    std::vector<int32_t> lane(depth * W, 0);
    for (int64_t k = 0; k < depth; ++k)
        for (int64_t l = 0; l < lanes; ++l) lane[k * W + l] = int32_t(l / depth * depth + k);
    const fc_blocks blocks{depth > 1 ? lane.data() : nullptr, 1, depth, lanes, lanes, lanes, lanes};
    std::vector<T> y[2] = {std::vector<T>(64 * pixels), std::vector<T>(64 * pixels)}, dw[2] = {w, w};
    for (int64_t p = 0; p < pixels; ++p) {
        for (int64_t k = 0; k < depth; ++k) {
            for (int64_t t = 0; t < taps; ++t) {
                const int64_t at = p * step + t;
                for (int64_t l = 0; l < lanes && at >= 1 && at < 1 + positions; ++l) {
                    const T value = x[64 * at + lane[k * W + l] * (depth > 1) + l * (depth == 1)];
                    y[1][64 * p + l] += value * w[(k * taps + t) * W + l];
                    dw[1][(k * taps + t) * W + l] += value * x[64 * p + l];
                }
            }
        }
    }
    const int64_t low = 1, high = positions > 0 ? 1 + positions : 1;
    const fc_grouped_row row{x.data(), &none, &none, w.data(), nullptr, y[0].data(), 1, taps, pixels, step, 1,
                             low, high, 64, 64, depth * taps * W, blocks};
    tested.grouped_row(&row);
    const fc_grouped_outer outer{x.data(), &none, x.data(), &none, dw[0].data(), 1, 1, taps, pixels, step, 1,
                                 low, high, 64, 64, depth * taps * W, blocks};
    tested.grouped_outer(&outer);
    for (int64_t i = 0; i < depth * taps * W; ++i) dw[0][i] = i % W < lanes ? dw[0][i] : dw[1][i];
    return agree("grouped_row", y[0], y[1]) & agree("grouped_outer", dw[0], dw[1]);
}

template <class T>
bool compare(int isa, int dtype) {
    const fc_kernels *tested = fc_kernels_for(isa, dtype), *scalar = fc_kernels_for(FC_SCALAR, dtype);
    if (!tested) {
        std::printf("instruction set %d does not run here\n", isa);
        return false;
    }
    for (int i = 0; i < 500; ++i)
        if (!compare_once<T>(*tested, *scalar) || !compare_grouped<T>(*tested)) return false;
    return true;
}

}  // namespace

int main(int count, char** arguments) {
    const int isa = count > 1 ? std::atoi(arguments[1]) : FC_NEON;
    const bool good = compare<float>(isa, FC_F32) && compare<double>(isa, FC_F64);
    std::puts(good ? "all agree" : "they differ");
    return good ? 0 : 1;
}
