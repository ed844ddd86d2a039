#include "tests/frontend/golden_check.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "frontend/frontend.h"
#include "frontend/safetensors.h"
#include "ir/interpreter.h"

namespace abq::frontend::testing {
namespace {

constexpr double kRowTolerance = 2e-4;
constexpr double kNllTolerance = 1e-3;

std::vector<int32_t> read_tokens(const SafetensorsFile& golden) {
  const auto tensor = golden.tensor("tokens");
  REQUIRE(tensor.ok());
  const std::span<const std::byte> bytes = tensor->data.bytes();
  std::vector<int32_t> tokens(bytes.size() / sizeof(int32_t));
  std::memcpy(tokens.data(), bytes.data(), bytes.size());
  return tokens;
}

std::vector<float> read_floats(const SafetensorsFile& golden, const char* name) {
  const auto tensor = golden.tensor(name);
  REQUIRE(tensor.ok());
  return *ir::to_float(*tensor);
}

// Largest difference over the largest golden value.
double row_error(std::span<const float> row, std::span<const float> golden) {
  REQUIRE(row.size() == golden.size());
  double difference = 0.0;
  double largest = 0.0;
  for (size_t i = 0; i < row.size(); ++i) {
    difference = std::max(difference, std::abs(double{row[i]} - double{golden[i]}));
    largest = std::max(largest, std::abs(double{golden[i]}));
  }
  return difference / largest;
}

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(logit - largest);
  }
  return largest + std::log(sum) - logits[static_cast<size_t>(token)];
}

struct Run {
  std::vector<std::vector<float>> hidden;  // of the last token
  ir::Matrix logits;
};

std::vector<float> last_row(const ir::Matrix& matrix) {
  const std::span<const float> row = matrix.view().row_span(matrix.rows - 1);
  return {row.begin(), row.end()};
}

Run run_model(const ir::Module& module, std::span<const int32_t> tokens) {
  Run run;
  ir::Interpreter interpreter;
  interpreter.observe_outputs([&](const ir::Node& node, const ir::Matrix& y) {
    if (node.name == "head.norm") run.hidden.push_back(last_row(y));
  });
  auto x = interpreter.embed(module, tokens);
  REQUIRE(x.ok());
  for (size_t i = 1; i < module.regions.size(); ++i) {
    if (i + 1 < module.regions.size()) run.hidden.push_back(last_row(*x));
    auto next = interpreter.run(module, module.regions[i], *x);
    INFO(next.status().to_string());
    REQUIRE(next.ok());
    x = std::move(next);
  }
  run.logits = std::move(x).value();
  return run;
}

}  // namespace

void check_golden(const std::string& model_dir) {
  const auto checkpoint = import_checkpoint(model_dir);
  INFO(checkpoint.status().to_string());
  REQUIRE(checkpoint.ok());
  const auto golden = SafetensorsFile::open(model_dir + "/golden.safetensors");
  REQUIRE(golden.ok());
  const std::vector<int32_t> tokens = read_tokens(*golden);
  const Run run = run_model(checkpoint->module, tokens);

  const std::vector<float> hidden = read_floats(*golden, "hidden_last_token");
  const auto width = static_cast<size_t>(checkpoint->module.int_attribute("hidden_size"));
  REQUIRE(hidden.size() == run.hidden.size() * width);
  for (size_t i = 0; i < run.hidden.size(); ++i) {
    INFO("hidden row ", i);
    CHECK(row_error(run.hidden[i], std::span(hidden).subspan(i * width, width)) < kRowTolerance);
  }

  const auto rows = static_cast<int64_t>(tokens.size());
  REQUIRE(run.logits.rows == rows);
  const MatrixView<const float> logits = run.logits.view();
  CHECK(row_error(logits.row_span(0), read_floats(*golden, "first_logits")) < kRowTolerance);
  CHECK(row_error(logits.row_span(rows - 1), read_floats(*golden, "last_logits")) < kRowTolerance);

  const std::vector<float> nll = read_floats(*golden, "nll");
  REQUIRE(nll.size() == tokens.size() - 1);
  double worst = 0.0;
  for (size_t t = 0; t < nll.size(); ++t) {
    const double ours =
        negative_log_likelihood(logits.row_span(static_cast<int64_t>(t)), tokens[t + 1]);
    worst = std::max(worst, std::abs(ours - nll[t]));
  }
  CHECK(worst < kNllTolerance);
}

}  // namespace abq::frontend::testing
