# The plan reader stands alone: tests of the writer use it without engine and kernels.
abq_add_layer(plan
  SOURCES
    plan.cpp
    plan_blobs.cpp
    plan_checks.cpp
    plan_header.cpp
    plan_operations.cpp
    plan_steps.cpp
  DEPENDS abq_compute abq_quant abq_proto abq_support)
