#include "tests/frontend/golden_check.h"

#include <doctest/doctest.h>

TEST_CASE("the bundled model, interpreted, reproduces another implementation's golden values") {
  abq::frontend::testing::check_golden(ABQ_TEST_DATA_DIR "/tiny-llama");
}
