// What the processor under us can execute, asked once at run time (the binary is relocatable and is
// compiled for baseline x86-64).
#pragma once

#include <string>
#include <string_view>

namespace abq {

// Levels are cumulative: each has the features of those before it.
enum class CpuIsa {
  kBaseline,  // portable C++
  kAvx2,      // AVX2, FMA, F16C, POPCNT
  kAvx512,    // AVX-512 F, BW, DQ, VL, VNNI, VPOPCNTDQ
  kAmx,       // and AMX-INT8 tiles, enabled by the operating system for this process
};

std::string_view cpu_isa_name(CpuIsa isa);

// The best level that this machine has, or the lower level named by the environment variable
// ABQ_CPU_ISA (baseline, avx2, avx512, amx); an unknown or higher name is ignored with a warning.
CpuIsa cpu_isa();

// The processor's own name, for reports ("AMD EPYC ...").
std::string cpu_model_name();

}  // namespace abq
