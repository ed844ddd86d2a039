# Refuses a weak or unique symbol in the objects that are compiled for AVX2 and AVX-512: the linker
# could keep that copy for the whole program, which must also run on machines without them.
#
#   cmake -DNM=<nm> -DARCHIVE=<libabq_compute.a> -P check_isa_objects.cmake
execute_process(COMMAND "${NM}" --defined-only --print-file-name "${ARCHIVE}"
  OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]*(kernels|gemm)_(avx|amx)[^\n]*" symbols "${listing}")
if(NOT symbols)
  message(FATAL_ERROR "${ARCHIVE}: no symbols of kernels_avx*; was it built for this processor?")
endif()
foreach(symbol IN LISTS symbols)
  # DW.ref.* only points at the exception personality, data that no instruction set touches.
  if(symbol MATCHES " [WVu] " AND NOT symbol MATCHES "DW\\.ref\\.")
    list(APPEND shared_symbols "${symbol}")
  endif()
endforeach()
if(shared_symbols)
  list(JOIN shared_symbols "\n  " text)
  message(FATAL_ERROR "symbols that the linker may share with code for older machines:\n  ${text}")
endif()
