#include "tools/block_progress.h"

#include <algorithm>

namespace abq::tools {

void BlockEstimate::begin_block(double now) {
  if (current_start_ && !current_resumed_) {
    worked_seconds_ += now - *current_start_;
    ++worked_blocks_;
  }
  current_start_ = now;
  current_resumed_ = false;
}

std::optional<double> BlockEstimate::seconds_left(double now, int64_t remaining,
                                                  double fraction) const {
  double seconds = worked_seconds_;
  double blocks = static_cast<double>(worked_blocks_);
  double left = static_cast<double>(remaining);
  if (current_start_ && !current_resumed_) {
    fraction = std::clamp(fraction, 0.0, 1.0);
    // Before a first fraction is known, the current block's time tells nothing yet.
    if (fraction > 0) {
      seconds += now - *current_start_;
      blocks += fraction;
    }
    left += 1 - fraction;
  }
  if (blocks <= 0) return std::nullopt;
  return seconds / blocks * left;
}

void BlockProgress::note_resumed(int64_t resumed) {
  if (resumed > resumed_) estimate_.mark_resumed();
  resumed_ = resumed;
}

void BlockProgress::update(int64_t done, int64_t total, std::string_view pass, int64_t resumed) {
  if (total <= 0) {
    // A pass on the whole model, between two rounds: no blocks to count, and another pace behind
    // it.
    if (total_ > 0) estimate_ = {};
    pass_ = pass;
    return;
  }
  note_resumed(resumed);
  if (done != done_) {
    estimate_.begin_block(now());
    fraction_ = 0;
  }
  done_ = done;
  total_ = total;
  pass_ = pass;
  if (pass.empty()) {
    line_.update(done, total, "done", std::nullopt, true);
    return;
  }
  line_.update(number(), total, pass, estimate_.seconds_left(now(), total - done - 1, fraction_),
               false);
}

void BlockProgress::detail(std::string_view words, double fraction, int64_t resumed) {
  note_resumed(resumed);
  fraction_ = fraction;
  if (done_ == total_) {
    line_.update(number(), total_, fmt::format("{}, {}", pass_, words), std::nullopt, false);
    return;
  }
  line_.update(number(), total_, fmt::format("{}, {}", pass_, words),
               estimate_.seconds_left(now(), total_ - done_ - 1, fraction), false);
}

}  // namespace abq::tools
