// The 2x2 orthonormal Haar transform: arithmetic only, for host and device.
//
// Block [[a, b], [c, d]] (design: the same definition as wagi_rt/haar.py and PyWavelets' dwt2 "haar"):
//   LL = (a + b + c + d) / 2    LH = (a + b - c - d) / 2
//   HL = (a - b + c - d) / 2    HH = (a - b - c + d) / 2
// The 4x4 matrix is orthonormal and symmetric, so the inverse is the same arithmetic.
// Layout: an image [N, C, H, W] becomes bands [N, 4C, H/2, W/2], band-major: C channels of LL, then LH,
// HL, HH. Storage may be float or a half type; the arithmetic is always float, rounded once at the store.
#pragma once

#include <cstddef>

#if defined(__CUDACC__)
#define WAGI_HOST_DEVICE __host__ __device__
#else
#define WAGI_HOST_DEVICE
#endif

namespace wagi {

// Four values: a pixel block (a, b, c, d) or its coefficients (LL, LH, HL, HH).
struct Quad {
    float v0, v1, v2, v3;
};

// The butterfly, 8 additions and 4 multiplications: pixels to coefficients, and coefficients to pixels.
WAGI_HOST_DEVICE inline Quad haar_butterfly(Quad q) {
    const float top = q.v0 + q.v1, bottom = q.v2 + q.v3;
    const float top_difference = q.v0 - q.v1, bottom_difference = q.v2 - q.v3;
    return {0.5f * (top + bottom), 0.5f * (top - bottom), 0.5f * (top_difference + bottom_difference),
            0.5f * (top_difference - bottom_difference)};
}

// Where the planes lie, in elements: of one image plane [H, W] and of its four band planes [H/2, W/2].
struct HaarStrides {
    std::ptrdiff_t image_row;  // from one image row to the next, W when the plane is dense
    std::ptrdiff_t band;       // from one band to the next: C * (H/2) * (W/2) in the dense band-major layout
    std::ptrdiff_t band_row;   // from one row of a band to the next
};

// The work of one thread: block (i, j) of one plane, image -> bands. `bands` points at the LL plane.
template <typename T>
WAGI_HOST_DEVICE inline void haar_forward_at(const T* image, T* bands, HaarStrides s, int i, int j) {
    const T* top = image + 2 * i * s.image_row + 2 * j;
    const T* bottom = top + s.image_row;
    const Quad q = haar_butterfly({static_cast<float>(top[0]), static_cast<float>(top[1]),
                                   static_cast<float>(bottom[0]), static_cast<float>(bottom[1])});
    T* out = bands + i * s.band_row + j;
    out[0] = static_cast<T>(q.v0);
    out[s.band] = static_cast<T>(q.v1);
    out[2 * s.band] = static_cast<T>(q.v2);
    out[3 * s.band] = static_cast<T>(q.v3);
}

// The inverse: bands -> block (i, j) of the image plane.
template <typename T>
WAGI_HOST_DEVICE inline void haar_inverse_at(const T* bands, T* image, HaarStrides s, int i, int j) {
    const T* in = bands + i * s.band_row + j;
    const Quad q = haar_butterfly({static_cast<float>(in[0]), static_cast<float>(in[s.band]),
                                   static_cast<float>(in[2 * s.band]), static_cast<float>(in[3 * s.band])});
    T* top = image + 2 * i * s.image_row + 2 * j;
    T* bottom = top + s.image_row;
    top[0] = static_cast<T>(q.v0);
    top[1] = static_cast<T>(q.v1);
    bottom[0] = static_cast<T>(q.v2);
    bottom[1] = static_cast<T>(q.v3);
}

}  // namespace wagi
