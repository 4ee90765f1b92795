// Compiled, not run: nvcc accepts the header in device code, for float and for half storage.
#include "haar_math.h"

#include <cuda_fp16.h>

template <typename T>
__global__ void round_trip(T* image, T* bands, wagi::HaarStrides strides) {
    const int i = blockIdx.y * blockDim.y + threadIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
    wagi::haar_forward_at(image, bands, strides, i, j);
    wagi::haar_inverse_at(bands, image, strides, i, j);
}

template __global__ void round_trip<float>(float*, float*, wagi::HaarStrides);
template __global__ void round_trip<__half>(__half*, __half*, wagi::HaarStrides);
