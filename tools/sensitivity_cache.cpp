#include "tools/sensitivity_cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "support/log.h"
#include "tools/work_files.h"

namespace abq::tools {
namespace {

constexpr std::string_view kFileName = "sensitivity.abqwork";

std::string spec_name(const quant::WeightSpec& spec) {
  return quant::to_string(quant::Scheme{spec, 16, 16, 16});
}

// Those of the specs that were measured; empty where one is missing or no number.
std::vector<double> picked(const proto::MeasuredSensitivity::Unit& stored,
                           const std::vector<quant::WeightSpec>& specs) {
  if (stored.schemes_size() != stored.kl_size()) return {};
  std::vector<double> kls;
  for (const quant::WeightSpec& spec : specs) {
    const auto found = std::find(stored.schemes().begin(), stored.schemes().end(), spec_name(spec));
    if (found == stored.schemes().end()) return {};
    const double kl = stored.kl(static_cast<int>(found - stored.schemes().begin()));
    if (!std::isfinite(kl) || kl < 0) return {};
    kls.push_back(kl);
  }
  return kls;
}

// KLs come from that of one spec, the reference.
bool same_reference(const proto::MeasuredSensitivity::Unit& stored,
                    const std::vector<quant::WeightSpec>& specs) {
  std::vector<quant::WeightSpec> measured;
  for (const std::string& name : stored.schemes()) {
    const Result<quant::Scheme> scheme = quant::parse_scheme(name);
    if (!scheme.ok()) return false;
    measured.push_back(scheme->weights);
  }
  return !measured.empty() &&
         measured[passes::reference_spec(measured)] == specs[passes::reference_spec(specs)];
}

// Of a unit's specs; empty where they cannot be had.
std::vector<double> stored_kls(const proto::MeasuredSensitivity& stored,
                               const passes::SensitivityUnit& unit) {
  const auto same = [&](const proto::MeasuredSensitivity::Unit& other) {
    return std::equal(other.layers().begin(), other.layers().end(), unit.layers.begin(),
                      unit.layers.end());
  };
  const auto found = std::find_if(stored.units().begin(), stored.units().end(), same);
  if (found == stored.units().end() || !same_reference(*found, unit.specs)) return {};
  return picked(*found, unit.specs);
}

}  // namespace

std::string SensitivityCache::path() const {
  return fmt::format("{}/{}", folder_, kFileName);
}

std::optional<passes::Sensitivity> SensitivityCache::load(
    std::span<const passes::SensitivityUnit> units) const {
  if (folder_.empty()) return std::nullopt;
  proto::MeasuredSensitivity stored;
  const Status read = read_message_file(path(), stored);
  if (read.code() == StatusCode::kNotFound) return std::nullopt;
  if (!read.ok()) {
    spdlog::warn("{}; sensitivities are measured anew", read.message());
    return std::nullopt;
  }
  if (stored.fingerprint_digest() != fingerprint_digest_) {
    spdlog::info("{}: is of another model, text or setting; sensitivities are measured anew",
                 path());
    return std::nullopt;
  }
  passes::Sensitivity sensitivity{{}, stored.activation_kl(), stored.tokens()};
  for (const passes::SensitivityUnit& unit : units) {
    sensitivity.kl.push_back(stored_kls(stored, unit));
    if (!sensitivity.kl.back().empty()) continue;
    spdlog::info("{}: lacks some of the layers or widths; sensitivities are measured anew", path());
    return std::nullopt;
  }
  return sensitivity;
}

Status SensitivityCache::save(const passes::Sensitivity& sensitivity,
                              std::span<const passes::SensitivityUnit> units) const {
  if (folder_.empty()) return {};
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) return io_error("{}: cannot create: {}", folder_, error.message());
  proto::MeasuredSensitivity stored;
  stored.set_fingerprint_digest(fingerprint_digest_);
  stored.set_activation_kl(sensitivity.activation_kl);
  stored.set_tokens(sensitivity.tokens);
  for (size_t i = 0; i < units.size(); ++i) {
    proto::MeasuredSensitivity::Unit& unit = *stored.add_units();
    unit.mutable_layers()->Assign(units[i].layers.begin(), units[i].layers.end());
    for (const quant::WeightSpec& spec : units[i].specs)
      unit.add_schemes(spec_name(spec));
    unit.mutable_kl()->Assign(sensitivity.kl[i].begin(), sensitivity.kl[i].end());
  }
  return write_message_file(path(), stored);
}

void SensitivityCache::remove() const {
  if (folder_.empty()) return;
  ::unlink(path().c_str());
  ::rmdir(folder_.c_str());
}

}  // namespace abq::tools
