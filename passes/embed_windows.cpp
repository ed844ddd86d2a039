#include "passes/embed_windows.h"

#include "ir/interpreter.h"

namespace abq::passes {

Result<Stream> embed_windows(const ir::Module& module,
                             std::span<const std::vector<int32_t>> windows,
                             const compute::Device& device, const StreamOptions& options) {
  const ir::Interpreter interpreter(device);
  Stream stream;
  for (int64_t w = 0; w < std::ssize(windows); ++w) {
    ABQ_ASSIGN_OR_RETURN(const ir::Matrix embedded,
                         interpreter.embed(module, windows[static_cast<size_t>(w)]));
    if (w == 0) {
      ABQ_ASSIGN_OR_RETURN(
          stream, Stream::create(std::ssize(windows), embedded.rows, embedded.cols, options));
    }
    ABQ_RETURN_IF_ERROR(stream.write(w, 1, embedded.data));
  }
  return stream;
}

}  // namespace abq::passes
