/* Arguments of the optimiser kernels. Pointers are to the table's dtype; all but the gradient is updated in place. */
#pragma once
#include <stdint.h>

/* One step on `count` elements. SGD has a buffer or NULL in `first`; Adam its two moments in `first` and `second`. */
typedef struct fc_step {
    void* p;
    const void* g;
    void* first;
    void* second;
    int64_t count;
    double lr, weight_decay;
    double momentum, dampening; /* SGD */
    double beta1, beta2, eps;   /* Adam: lr was divided by 1 - beta1^step, */
    double correction;          /* this is sqrt(1 - beta2^step), */
    double shrink;              /* and p is multiplied by this first: 1 - lr * weight_decay if decoupled */
    int32_t nesterov, start;    /* start: the buffer becomes the gradient */
} fc_step;
