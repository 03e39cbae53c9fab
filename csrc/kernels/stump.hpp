// The best split of one feature. Sums are in float64 for either dtype, in an order that the samples' order fixes; each
// side is summed from its own end, so that what is left of a difference never counts as weight.
// Contract in include/fastconv/stump.h.
#pragma once
#include <cstdint>

#include "fastconv/stump.h"

namespace fastconv {

// What a side is worth, of the classes' weights in it.
static inline double side_worth(const double* weights, int64_t classes, bool gini) {
    double total = 0, squares = 0, most = 0;
    for (int64_t k = 0; k < classes; ++k) {
        total += weights[k];
        squares += weights[k] * weights[k];
        most = weights[k] > most ? weights[k] : most;
    }
    return !gini ? most : total > 0 ? squares / total : 0;
}

// Adds a bin's weights to a side's; returns whether there were any.
static inline bool add_bin(double* side, const double* bin, int64_t classes) {
    bool any = false;
    for (int64_t k = 0; k < classes; ++k) {
        side[k] += bin[k];
        any = any || bin[k] > 0;
    }
    return any;
}

template <class V>
static void stump(const fc_stump* a) {
    constexpr int kApart = 4;  // histograms filled in turn: neighbours of one bin would wait for each other
    const int64_t classes = a->classes;
    double* side = a->sums + FC_BINS * classes;
    for (int64_t k = 0; k < classes; ++k) {
        double parts[kApart][FC_BINS] = {};
        int64_t i = a->start[k];
        for (; i + kApart <= a->start[k + 1]; i += kApart) {
            for (int j = 0; j < kApart; ++j) parts[j][a->bins[i + j]] += a->weight[i + j];
        }
        for (; i < a->start[k + 1]; ++i) parts[0][a->bins[i]] += a->weight[i];
        for (int bin = 0; bin < FC_BINS; ++bin) {
            a->sums[bin * classes + k] = (parts[0][bin] + parts[1][bin]) + (parts[2][bin] + parts[3][bin]);
        }
    }
    double behind[FC_BINS];  // what all bins after each are worth
    int last = 0;            // the last bin with weight: no place to split at
    for (int64_t k = 0; k < classes; ++k) side[k] = 0;
    for (int bin = FC_BINS - 1; bin >= 0; --bin) {
        behind[bin] = side_worth(side, classes, a->gini);
        if (add_bin(side, a->sums + bin * classes, classes) && bin > last) last = bin;
    }
    *a->bin = -1;
    *a->score = 0;
    for (int64_t k = 0; k < classes; ++k) side[k] = 0;
    for (int bin = 0; bin < last; ++bin) {
        if (!add_bin(side, a->sums + bin * classes, classes)) continue;
        const double score = side_worth(side, classes, a->gini) + behind[bin];
        if (*a->bin < 0 || score > *a->score) *a->bin = bin, *a->score = score;
    }
}

}  // namespace fastconv
