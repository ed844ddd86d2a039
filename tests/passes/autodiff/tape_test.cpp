#include "passes/autodiff/tape.h"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "passes/autodiff/ops.h"

namespace abq::passes::autodiff {
namespace {

double scalar(const compute::Tensor& x) {
  return x.as<double>()[0];
}

}  // namespace

TEST_CASE("a value with two readers gets the sum of their gradients") {
  const auto device = compute::create_reference_tensor_device();
  Tape tape(*device);
  const Var x = tape.parameter(device->upload(std::vector<float>{3}, 1, 1));
  const Var square = multiply(tape, x, x);
  const Var sum = add(tape, square, x);  // x^2 + x
  tape.backward(sum);
  CHECK(scalar(sum->value) == 12);
  CHECK(scalar(x->gradient) == 7);  // 2 x + 1
}

TEST_CASE("a parameter keeps the sum over several backward passes") {
  const auto device = compute::create_reference_tensor_device();
  Tape tape(*device);
  const Var x = tape.parameter(device->upload(std::vector<float>{2}, 1, 1));
  tape.backward(multiply(tape, x, x), 0.5f);
  tape.backward(multiply(tape, x, x), 0.25f);
  CHECK(scalar(x->gradient) == 0.75 * 4);
}

TEST_CASE("what nobody differentiates is not recorded") {
  const auto device = compute::create_reference_tensor_device();
  Tape tape(*device);
  Var x = tape.constant(device->upload(std::vector<float>{2}, 1, 1));
  const std::weak_ptr<Node> watch = x;
  const Var y = multiply(tape, x, x);
  x.reset();
  CHECK(watch.expired());
  CHECK(y->inputs.empty());
  tape.backward(y);
  CHECK(y->gradient.empty());
}

TEST_CASE("backward frees records, and gradients in between, but not those of parameters") {
  const auto device = compute::create_reference_tensor_device();
  Tape tape(*device);
  const Var x = tape.parameter(device->upload(std::vector<float>{2}, 1, 1));
  Var y = multiply(tape, x, x);
  const std::weak_ptr<Node> watch = y;
  const Var z = reciprocal(tape, y);
  y.reset();
  CHECK(!watch.expired());
  tape.backward(z);
  CHECK(watch.expired());
  CHECK(z->gradient.empty());
  CHECK(scalar(x->gradient) == doctest::Approx(-2.0 / 8));
}

TEST_CASE("a sum of terms hands each term its weight") {
  const auto device = compute::create_reference_tensor_device();
  Tape tape(*device);
  const Var x = tape.parameter(device->upload(std::vector<float>{4}, 1, 1));
  const Var y = tape.parameter(device->upload(std::vector<float>{5}, 1, 1));
  const Var sum = weighted_sum(tape, {{x, 0.5f}, {y, 2}, {x, 1}});
  tape.backward(sum);
  CHECK(scalar(sum->value) == 16);
  CHECK(scalar(x->gradient) == 1.5);
  CHECK(scalar(y->gradient) == 2);
}

}  // namespace abq::passes::autodiff
