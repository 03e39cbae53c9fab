// What to do around fork(): each part of the runtime declares one static AtFork. No effect where there is no fork.
#pragma once

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace fastconv {

struct AtFork {
    using Handler = void (*)();

    AtFork(Handler before, Handler in_parent, Handler in_child) {
#if !defined(_WIN32)
        pthread_atfork(before, in_parent, in_child);
#else
        (void)before, (void)in_parent, (void)in_child;
#endif
    }
};

}  // namespace fastconv
