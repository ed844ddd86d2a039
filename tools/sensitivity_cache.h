// Measured sensitivities in a work folder, so that another target for the same model needs no
// second measurement.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "passes/allocation/sensitivity.h"
#include "proto/work.pb.h"
#include "support/status.h"

namespace abq::tools {

class SensitivityCache {
 public:
  SensitivityCache() = default;  // keeps nothing
  // `fingerprint_digest` stands for all that the numbers depend on but the units. An empty
  // folder: nothing is kept.
  SensitivityCache(std::string folder, std::string fingerprint_digest)
      : folder_(std::move(folder)), fingerprint_digest_(std::move(fingerprint_digest)) {}

  // Nothing where there is no file, or one of another model, text or setting, or without one of the
  // units or widths, or damaged; the log says which of these. A file may have more widths than are
  // asked for, as long as the same one was measured (passes::reference_spec).
  std::optional<passes::Sensitivity> load(std::span<const passes::SensitivityUnit> units) const;
  // Replaces what is there, and makes the folder. Io says why it cannot be written.
  Status save(const passes::Sensitivity& sensitivity,
              std::span<const passes::SensitivityUnit> units) const;
  // Deletes the file, and the folder if nothing else is in it.
  void remove() const;

 private:
  std::string path() const;

  std::string folder_;
  std::string fingerprint_digest_;
};

}  // namespace abq::tools
