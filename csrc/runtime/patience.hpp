// How long an idle thread of the pool looks for work.
#pragma once
#include <chrono>

#include "float_state.hpp"

namespace fastconv {

// For how long a thread with nothing to do looks for more before it goes to sleep: longer than Python takes from one
// layer to the next, since to wake a thread costs its caller 10 us. Where another process wants this processor, which
// shows in looks at the clock that come late one soon after the other, looking would use up the time that the system
// grants for work. A single late look means little: the system's own services take some milliseconds now and then.
class Patience {
public:
    void renew() { pauses_ = 0; }

    bool lasts() {
        pause_briefly();
        if (++pauses_ % kPauses != 0) return true;
        const Clock::time_point now = Clock::now();
        if (pauses_ == kPauses)
            began_ = now;
        else if (now - glance_ > kLate)
            comes_late(now);
        glance_ = now;
        return now - began_ < (now < crowded_until_ ? kBrief : kLong);
    }

private:
    using Clock = std::chrono::steady_clock;
    using Microseconds = std::chrono::microseconds;
    static constexpr int kPauses = 64;  // 1 to 3 us from one look at the clock to the next
    static constexpr Microseconds kLong{300}, kBrief{5}, kLate{1000}, kSoon{100000}, kCrowded{200000};

    void comes_late(Clock::time_point now) {
        if (now - late_ < kSoon) crowded_until_ = now + kCrowded;
        late_ = now;
    }

    int pauses_ = 0;
    Clock::time_point began_, glance_, late_{}, crowded_until_{};
};

}  // namespace fastconv
