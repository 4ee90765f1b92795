# Sets WAGI_HAVE_TENSORRT and the target wagi_tensorrt_headers. Nothing links to TensorRT: headers are all it takes.
# Searched: WAGI_TENSORRT_INCLUDE (option or environment), the system and CMAKE_PREFIX_PATH, the CMake package of
# NVIDIA's 11.2+ archives, and, only if asked for, a download.
set(WAGI_HAVE_TENSORRT OFF)
if(NOT WAGI_HAVE_CUDA)
  message(STATUS "wagi: the TensorRT plugins are skipped, they need nvcc")
  return()
endif()

if(WAGI_TENSORRT_INCLUDE)
  set(include ${WAGI_TENSORRT_INCLUDE})
  if(NOT EXISTS ${include}/NvInfer.h)
    message(FATAL_ERROR "WAGI_TENSORRT_INCLUDE: ${include} holds no NvInfer.h; name the folder of that file")
  endif()
else()
  find_path(include NvInfer.h NO_CACHE)
  if(NOT include)
    find_package(TensorRT-Enterprise CONFIG QUIET)
    # Its folder is found whatever variables the package sets.
    find_path(include NvInfer.h HINTS ${TensorRT-Enterprise_DIR}/../include NO_DEFAULT_PATH NO_CACHE)
  endif()
  if(NOT include AND WAGI_FETCH_TENSORRT)
    include(FetchContent)
    if(POLICY CMP0135)
      cmake_policy(SET CMP0135 NEW)  # times of extraction, not of the archive
    endif()
    message(STATUS "wagi: downloading the TensorRT 11.1 headers")
    # SOURCE_SUBDIR: a folder without a CMakeLists.txt, so nothing of theirs is built.
    FetchContent_Declare(tensorrt SOURCE_SUBDIR include
                         URL https://github.com/NVIDIA/TensorRT/archive/refs/tags/v11.1.tar.gz)
    FetchContent_MakeAvailable(tensorrt)
    set(include ${tensorrt_SOURCE_DIR}/include)
  endif()
endif()

if(NOT include)
  message(STATUS "wagi: no NvInfer.h found (set WAGI_TENSORRT_INCLUDE, or -DWAGI_FETCH_TENSORRT=ON downloads the "
                 "public headers): the TensorRT plugins are skipped")
  return()
endif()
file(STRINGS ${include}/NvInferVersion.h version REGEX "define (NV_TENSORRT|TRT)_(MAJOR|MINOR)(_ENTERPRISE)? +[0-9]")
string(REGEX REPLACE "[^;]*MAJOR[^ ]* +([0-9]+)[^;]*;[^;]*MINOR[^ ]* +([0-9]+).*" "\\1.\\2" version "${version}")
if(version VERSION_LESS 11)
  message(STATUS "wagi: ${include} is TensorRT ${version}, 11.0 or newer is needed: the TensorRT plugins are skipped")
  return()
endif()
add_library(wagi_tensorrt_headers INTERFACE)
target_include_directories(wagi_tensorrt_headers SYSTEM INTERFACE ${include})
target_link_libraries(wagi_tensorrt_headers INTERFACE CUDA::cudart_static)  # NvInfer.h includes cuda_runtime_api.h
set(WAGI_HAVE_TENSORRT ON)
message(STATUS "wagi: TensorRT ${version} headers in ${include}")
