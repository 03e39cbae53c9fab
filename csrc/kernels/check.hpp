// FC_CHECK: what a kernel assumes of its arguments. Checked in builds made with FASTCONV_DEBUG=1, absent in others.
#pragma once
#if defined(FC_DEBUG)
#include <cstdio>
#include <cstdlib>
#define FC_CHECK(condition)                                                                       \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            std::fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);         \
            std::abort();                                                                         \
        }                                                                                         \
    } while (0)
#else
#define FC_CHECK(condition) static_cast<void>(0)
#endif
