#include "tools/block_progress.h"

#include <doctest/doctest.h>

namespace abq::tools {

TEST_CASE("there is no estimate before any work") {
  BlockEstimate estimate;
  CHECK_FALSE(estimate.seconds_left(0, 3, 0));
  estimate.begin_block(0);
  CHECK_FALSE(estimate.seconds_left(10, 3, 0));
}

TEST_CASE("the part of the first block gives the first estimate") {
  BlockEstimate estimate;
  estimate.begin_block(100);
  // A quarter in 10 s: 40 s a block; three quarters and 3 blocks to go.
  CHECK(estimate.seconds_left(110, 3, 0.25).value() == doctest::Approx(150));
}

TEST_CASE("finished blocks and the part of the current one are judged together") {
  BlockEstimate estimate;
  estimate.begin_block(0);
  estimate.begin_block(30);
  CHECK(estimate.seconds_left(30, 2, 0).value() == doctest::Approx(90));
  // 45 s for a block and a half.
  CHECK(estimate.seconds_left(45, 2, 0.5).value() == doctest::Approx(75));
  // Fractions out of range are held at the range's end.
  CHECK(estimate.seconds_left(60, 2, 1.5).value() == doctest::Approx(60));
}

TEST_CASE("blocks taken up from a work folder do not spoil the estimate") {
  BlockEstimate estimate;
  estimate.begin_block(0);
  estimate.mark_resumed();
  CHECK_FALSE(estimate.seconds_left(1, 3, 1));
  estimate.begin_block(1);
  estimate.mark_resumed();
  estimate.begin_block(2);
  CHECK_FALSE(estimate.seconds_left(2, 1, 0));
  CHECK(estimate.seconds_left(12, 1, 0.5).value() == doctest::Approx(30));
  estimate.begin_block(22);
  CHECK(estimate.seconds_left(22, 0, 0).value() == doctest::Approx(20));
}

TEST_CASE("a progress line says label and place and detail and times") {
  CHECK(progress_text("block", 3, 8, "correct-distribution, epoch 12/20, loss 0.0123", 41.23, 62) ==
        "block 3/8 correct-distribution, epoch 12/20, loss 0.0123, 41.2 s elapsed, ETA 1 min 02 s");
  CHECK(progress_text("window", 1, 2, "scoring", 0.5, std::nullopt) ==
        "window 1/2 scoring, 0.5 s elapsed");
}

}  // namespace abq::tools
