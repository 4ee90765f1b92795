// Host tests of haar_math.h. Usage: haar_math_test CASE [GOLDEN_FILE]; ctest runs each case.
#include "haar_math.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

int failures = 0;

void expect_near(double got, double want, double tolerance, const char* what) {
    if (std::fabs(got - want) <= tolerance) return;  // written so that a NaN fails
    if (++failures <= 10) std::printf("%s: got %.9g, expected %.9g\n", what, got, want);
}

std::vector<float> uniform(std::size_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<float> draw(-1.f, 1.f);
    std::vector<float> values(count);
    for (float& v : values) v = draw(engine);
    return values;
}

// The definition as a product with the 4x4 orthonormal matrix, in double: rows LL, LH, HL, HH.
const double kMatrix[4][4] = {
    {.5, .5, .5, .5}, {.5, .5, -.5, -.5}, {.5, -.5, .5, -.5}, {.5, -.5, -.5, .5}};

void multiply(const double in[4], double out[4], bool transposed) {
    for (int r = 0; r < 4; ++r) {
        out[r] = 0;
        for (int c = 0; c < 4; ++c) out[r] += (transposed ? kMatrix[c][r] : kMatrix[r][c]) * in[c];
    }
}

// [N, C, H, W] <-> [N, 4C, H/2, W/2], dense, one call of the header per 2x2 block.
template <typename T>
void transform(std::vector<T>& image, std::vector<T>& bands, int n, int c, int h, int w, bool forward) {
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(h) * w, quarter = plane / 4;
    const wagi::HaarStrides strides{w, c * quarter, w / 2};
    for (int b = 0; b < n; ++b)
        for (int k = 0; k < c; ++k)
            for (int i = 0; i < h / 2; ++i)
                for (int j = 0; j < w / 2; ++j) {
                    T* x = image.data() + (b * c + k) * plane;
                    T* y = bands.data() + (4 * b * c + k) * quarter;
                    if (forward) wagi::haar_forward_at(x, y, strides, i, j);
                    else wagi::haar_inverse_at(y, x, strides, i, j);
                }
}

void test_matrix() {
    // The basis first: an exact answer for each of the 16 signs, then random blocks both ways.
    for (int c = 0; c < 4; ++c) {
        float e[4] = {0, 0, 0, 0};
        e[c] = 1;
        const wagi::Quad q = wagi::haar_butterfly({e[0], e[1], e[2], e[3]});
        const float got[4] = {q.v0, q.v1, q.v2, q.v3};
        for (int r = 0; r < 4; ++r) expect_near(got[r], kMatrix[r][c], 0, "basis");
    }
    const std::vector<float> values = uniform(4000, 1);
    for (std::size_t i = 0; i < values.size(); i += 4) {
        const float* v = &values[i];
        const double block[4] = {v[0], v[1], v[2], v[3]};
        double want[2][4];
        multiply(block, want[0], false);
        multiply(block, want[1], true);
        float image[4] = {v[0], v[1], v[2], v[3]}, out[4], coefficients[4] = {v[0], v[1], v[2], v[3]}, back[4];
        wagi::haar_forward_at(image, out, {2, 1, 1}, 0, 0);
        wagi::haar_inverse_at(coefficients, back, {2, 1, 1}, 0, 0);
        for (int r = 0; r < 4; ++r) {
            expect_near(out[r], want[0][r], 2e-7, "forward");
            expect_near(back[r], want[1][r], 2e-7, "inverse");
        }
    }
}

void test_strides() {
    // A 6x10 window with odd pitches in both buffers; what lies between the rows must stay untouched.
    const int h = 6, w = 10, pitch = 13, band_pitch = 7, band = 3 * band_pitch + 5;
    const float guard = 1234.f;
    const std::vector<float> image = uniform(static_cast<std::size_t>(h) * pitch, 2);
    std::vector<float> bands(4 * band, guard), back(static_cast<std::size_t>(h) * pitch, guard);
    const wagi::HaarStrides strides{pitch, band, band_pitch};
    for (int i = 0; i < h / 2; ++i)
        for (int j = 0; j < w / 2; ++j) wagi::haar_forward_at(image.data(), bands.data(), strides, i, j);
    for (int k = 0; k < 4; ++k)
        for (int at = 0; at < band; ++at) {
            const int i = at / band_pitch, j = at % band_pitch;
            const float got = bands[static_cast<std::size_t>(k) * band + at];
            if (i >= h / 2 || j >= w / 2) {
                expect_near(got, guard, 0, "padding of the bands");
                continue;
            }
            const float* x = &image[2 * i * pitch + 2 * j];
            const double block[4] = {x[0], x[1], x[pitch], x[pitch + 1]};
            double want[4];
            multiply(block, want, false);
            expect_near(got, want[k], 2e-7, "strided band");
        }
    for (int i = 0; i < h / 2; ++i)
        for (int j = 0; j < w / 2; ++j) wagi::haar_inverse_at(bands.data(), back.data(), strides, i, j);
    for (int y = 0; y < h; ++y)
        for (int x = 0; x < pitch; ++x)
            expect_near(back[y * pitch + x], x < w ? image[y * pitch + x] : guard, 5e-7, "strided image");
}

double energy(const std::vector<float>& values) {
    double sum = 0;
    for (float v : values) sum += static_cast<double>(v) * v;
    return sum;
}

void test_roundtrip() {
    const int n = 2, c = 3, h = 18, w = 22;
    const std::vector<float> original = uniform(n * c * h * w, 3);
    std::vector<float> image = original, bands(original.size()), back(original.size());
    transform(image, bands, n, c, h, w, true);
    expect_near(energy(bands) / energy(original), 1, 1e-6, "energy");
    transform(back, bands, n, c, h, w, false);
    for (std::size_t i = 0; i < back.size(); ++i) expect_near(back[i], original[i], 5e-7, "round trip");
}

#if defined(__FLT16_MAX__)
void test_half() {
    // Storage in half, arithmetic in float: every coefficient is the double result rounded once.
    const int h = 16, w = 12;
    const std::vector<float> values = uniform(h * w, 4);
    std::vector<_Float16> image(values.begin(), values.end()), bands(values.size());
    transform(image, bands, 1, 1, h, w, true);
    for (int i = 0; i < h / 2; ++i)
        for (int j = 0; j < w / 2; ++j) {
            const _Float16* x = &image[2 * i * w + 2 * j];
            const double block[4] = {static_cast<double>(x[0]), static_cast<double>(x[1]),
                                     static_cast<double>(x[w]), static_cast<double>(x[w + 1])};
            double want[4];
            multiply(block, want, false);
            for (int k = 0; k < 4; ++k) {
                const _Float16 got = bands[k * h * w / 4 + i * (w / 2) + j];
                expect_near(static_cast<double>(got), static_cast<double>(static_cast<_Float16>(want[k])), 0, "half");
            }
        }
}
#endif

std::vector<float> read(std::istream& in, std::size_t count) {
    std::vector<float> values(count, std::nanf(""));
    for (float& v : values) in >> v;
    if (!in) {
        std::printf("the golden file ends too early\n");
        std::exit(1);
    }
    return values;
}

void test_golden(const std::string& path) {
    std::ifstream in(path);
    std::string comment;
    if (!std::getline(in, comment)) {
        std::printf("cannot read %s\n", path.c_str());
        std::exit(1);
    }
    int cases = 0;
    for (int n, c, h, w; in >> n >> c >> h >> w; ++cases) {
        const std::size_t count = static_cast<std::size_t>(n) * c * h * w;
        std::vector<float> image = read(in, count), want = read(in, count), bands(count), back(count);
        transform(image, bands, n, c, h, w, true);
        transform(back, want, n, c, h, w, false);
        for (std::size_t i = 0; i < count; ++i) {
            expect_near(bands[i], want[i], 5e-7, "PyWavelets forward");
            expect_near(back[i], image[i], 5e-7, "PyWavelets inverse");
        }
    }
    expect_near(cases, 4, 0, "number of golden cases");
}

}  // namespace

int main(int argc, char** argv) {
    const std::string name = argc > 1 ? argv[1] : "";
    if (name == "matrix") test_matrix();
    else if (name == "strides") test_strides();
    else if (name == "roundtrip") test_roundtrip();
#if defined(__FLT16_MAX__)
    else if (name == "half") test_half();
#else
    else if (name == "half") return 77;  // no half type in this compiler: ctest reports a skip
#endif
    else if (name == "golden" && argc > 2) test_golden(argv[2]);
    else {
        std::printf("usage: haar_math_test matrix|strides|roundtrip|half|golden GOLDEN_FILE\n");
        return 2;
    }
    std::printf("%s: %d failures\n", name.c_str(), failures);
    return failures ? 1 : 0;
}
