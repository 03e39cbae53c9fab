/* The best split of one feature: a histogram of weights for each class, then a walk over the places to split at. */
#pragma once
#include <stdint.h>

enum { FC_BINS = 256 };

typedef struct fc_stump {
    double* score;            /* result: what both sides are worth, at the best place */
    int64_t* bin;             /* result: the last bin of the left side, first of equals; -1: all weight is in one bin */
    const uint8_t* bins;      /* the samples' bins, those of a class side by side */
    const double* weight;     /* the samples' weights, none negative */
    const int64_t* start;     /* where each class begins; start[classes] is the number of samples */
    double* sums;             /* scratch: FC_BINS + 1 rows of classes */
    int64_t classes;
    int32_t gini;             /* a side with weights w of the classes is worth sum of w^2 / sum of w, else max of w */
} fc_stump;
