#include "support/cpu_features.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include "support/log.h"

namespace abq {
namespace {

constexpr std::array kIsaNames = {"baseline", "avx2", "avx512", "amx"};

#if defined(__x86_64__)
// Linux hands out the AMX tile registers per process, on request (Documentation/arch/x86/xstate).
bool request_amx_tiles() {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureXtileData = 18;
  return ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtileData) == 0;
}

bool has_amx_int8() {
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  const bool tile = (edx >> 24) & 1u;
  const bool int8 = (edx >> 25) & 1u;
  return tile && int8 && request_amx_tiles();
}

// GCC 12's __builtin_cpu_supports does not know f16c.
bool has_f16c() {
  unsigned eax = 1, ebx = 0, ecx = 0, edx = 0;
  __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (ecx >> 29) & 1u;
}

CpuIsa detect() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("popcnt") && has_f16c();
  if (!avx2) return CpuIsa::kBaseline;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni") &&
                      __builtin_cpu_supports("avx512vpopcntdq");
  if (!avx512) return CpuIsa::kAvx2;
  return has_amx_int8() ? CpuIsa::kAmx : CpuIsa::kAvx512;
}
#else
CpuIsa detect() {
  return CpuIsa::kBaseline;
}
#endif

CpuIsa detect_and_cap() {
  const CpuIsa best = detect();
  const char* requested = std::getenv("ABQ_CPU_ISA");
  if (requested == nullptr) return best;
  for (size_t i = 0; i < kIsaNames.size(); ++i) {
    if (std::string_view(requested) == kIsaNames[i] &&
        static_cast<int>(i) <= static_cast<int>(best)) {
      return static_cast<CpuIsa>(i);
    }
  }
  spdlog::warn("ABQ_CPU_ISA={}: not a level this machine has (best is {}); ignored", requested,
               cpu_isa_name(best));
  return best;
}

}  // namespace

std::string_view cpu_isa_name(CpuIsa isa) {
  return kIsaNames[static_cast<size_t>(isa)];
}

CpuIsa cpu_isa() {
  static const CpuIsa isa = detect_and_cap();
  return isa;
}

std::string cpu_model_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

}  // namespace abq
