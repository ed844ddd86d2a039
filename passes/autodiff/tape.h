// Reverse mode differentiation over tensors of a device.
//
// Functions of ops.h compute a value at once and record how its gradient goes back to their inputs;
// backward() walks the records from a scalar loss in reverse order. Values nobody will
// differentiate are not recorded and are freed with their last handle, so that the same code runs a
// block without learning anything.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "compute/tensor_device.h"

namespace abq::passes::autodiff {

struct Node;
// A value of the computation. Handles share it.
using Var = std::shared_ptr<Node>;

// The gradients of the inputs, in order, from that of the result; an empty tensor where the input
// wants none.
using Vjp = std::function<std::vector<compute::Tensor>(const compute::Tensor& dy)>;

struct Node {
  compute::Tensor value;
  compute::Tensor gradient;  // empty until backward() reaches the node
  bool wants_gradient = false;
  // What backward() follows; dropped as soon as it has.
  std::vector<Var> inputs;
  Vjp vjp;
  int64_t order = 0;  // after its inputs
};

// Adds the gradient that came back to a parameter to `sum`, which is made where it is empty;
// nothing came back: nothing changes.
void add_gradient(compute::TensorDevice& device, const Var& parameter, compute::Tensor& sum);

class Tape {
 public:
  explicit Tape(compute::TensorDevice& device) : device_(device) {}

  compute::TensorDevice& device() const { return device_; }

  // A leaf without and with a gradient.
  Var constant(compute::Tensor value);
  Var parameter(compute::Tensor value);
  // The result of a function; `vjp` is dropped when no input wants a gradient.
  Var record(compute::Tensor value, std::vector<Var> inputs, Vjp vjp);

  // Adds the gradient of `factor` * loss to every parameter the loss depends on. Parameters keep
  // their sums; everything in between frees its gradient and its record on the way, so that a
  // value can be differentiated once.
  void backward(const Var& loss, float factor = 1.0f);
  // The same from any value and the gradient that reached it from behind: a network too large for
  // one tape goes back piece by piece.
  void backward_from(const Var& value, compute::Tensor gradient);

 private:
  compute::TensorDevice& device_;
  int64_t next_order_ = 0;
};

}  // namespace abq::passes::autodiff
