#include "tools/allocation_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace abq::tools {
namespace {

using Json = nlohmann::ordered_json;

// "w2ba8-g128" -> "w2b": what candidates of a layer differ in.
std::string_view width_of(std::string_view scheme) {
  return scheme.substr(0, scheme.find('a'));
}

// The widths of all units, in the order in which they first appear.
std::vector<std::string_view> widths_of(const proto::AllocationReport& allocation) {
  std::vector<std::string_view> widths;
  for (const proto::UnitAllocation& unit : allocation.units())
    for (const proto::SchemeChoice& choice : unit.choices())
      if (const std::string_view width = width_of(choice.scheme());
          std::find(widths.begin(), widths.end(), width) == widths.end())
        widths.push_back(width);
  return widths;
}

// In thousandths of a nat; "-" where the unit does not have the width.
std::string cell(const proto::UnitAllocation& unit, std::string_view width) {
  for (int i = 0; i < unit.choices_size(); ++i) {
    if (width_of(unit.choices(i).scheme()) != width) continue;
    return fmt::format("{:.3f}{}", 1e3 * unit.choices(i).kl(), i == unit.chosen() ? "*" : " ");
  }
  return "- ";
}

// "layers.0.attn.q, k, v": the first name, and the last parts of the others.
std::string unit_name(const proto::UnitAllocation& unit) {
  std::string name = unit.layers(0);
  for (int i = 1; i < unit.layers_size(); ++i) {
    const std::string& layer = unit.layers(i);
    name += ", " + layer.substr(layer.rfind('.') + 1);
  }
  return name;
}

}  // namespace

std::string allocation_summary(const proto::Report& report) {
  if (!report.has_allocation()) return {};
  const proto::AllocationReport& allocation = report.allocation();
  return fmt::format(
      "allocation   for {}\n"
      "KL           {:.6f} nats per token on {} calibration tokens; predicted {:.6f}, {:.6f} of it "
      "from activations\n",
      allocation.target(), allocation.measured_kl(), allocation.tokens(), allocation.predicted_kl(),
      allocation.activation_kl());
}

std::string allocation_table(const proto::Report& report) {
  if (!report.has_allocation()) return {};
  const proto::AllocationReport& allocation = report.allocation();
  constexpr std::string_view kTitle = "KL alone, 1e-3 nats";
  size_t name_width = kTitle.size();
  for (const proto::UnitAllocation& unit : allocation.units())
    name_width = std::max(name_width, unit_name(unit).size());
  const std::vector<std::string_view> widths = widths_of(allocation);
  std::string text = fmt::format("\n{:<{}}", kTitle, name_width);
  for (const std::string_view width : widths)
    text += fmt::format(" {:>9} ", width);
  text += "  chosen\n";
  for (const proto::UnitAllocation& unit : allocation.units()) {
    text += fmt::format("{:<{}}", unit_name(unit), name_width);
    for (const std::string_view width : widths)
      text += fmt::format(" {:>10}", cell(unit, width));
    text += fmt::format("  {}\n", unit.choices(unit.chosen()).scheme());
  }
  return text;
}

Json allocation_json(const proto::AllocationReport& allocation) {
  Json units = Json::array();
  for (const proto::UnitAllocation& unit : allocation.units()) {
    Json choices = Json::array();
    for (const proto::SchemeChoice& choice : unit.choices())
      choices.push_back(
          {{"scheme", choice.scheme()}, {"bytes", choice.bytes()}, {"kl", choice.kl()}});
    units.push_back(
        {{"layers", std::vector<std::string>(unit.layers().begin(), unit.layers().end())},
         {"choices", choices},
         {"chosen", unit.choices(unit.chosen()).scheme()}});
  }
  return {{"target", allocation.target()},
          {"tokens", allocation.tokens()},
          {"activation_kl", allocation.activation_kl()},
          {"predicted_kl", allocation.predicted_kl()},
          {"measured_kl", allocation.measured_kl()},
          {"units", units}};
}

}  // namespace abq::tools
