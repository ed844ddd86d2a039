// Compares an imported model, run by the reference interpreter, with its golden.safetensors.
#pragma once

#include <string>

namespace abq::frontend::testing {

// golden.safetensors: tokens i32[T]; nll f32[T-1] of every token but the first; first_logits and
// last_logits f32[V]; hidden_last_token f32[layers + 1, H]: the embedding, every block's output but
// the last, and the final norm's output, of the last token. All by a float32 run of another
// implementation. Rows may differ by 2e-4 of their largest value, each nll by 1e-3.
void check_golden(const std::string& model_dir);

}  // namespace abq::frontend::testing
