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

// Every place of a grid, in the order in which a kernel's threads count.
template <typename Work>
void each(unsigned n, unsigned channels, unsigned rows, unsigned columns, Work work) {
    for (unsigned at = 0; at < n * channels * rows * columns; ++at)
        work(wagi::haar_index(at, channels, rows, columns));
}

// One call of haar_block per 2x2 block: out of `in`, into `out`.
template <bool kForward, typename T>
void transform(const std::vector<T>& in, std::vector<T>& out, wagi::HaarShape s, const wagi::HaarLayout& layout) {
    each(s.n, s.c, s.h / 2, s.w / 2, [&](wagi::HaarIndex x) {
        wagi::haar_block<kForward>(in.data(), out.data(), layout, x);
    });
}

void test_matrix() {
    // The basis first: an exact answer for each of the 16 signs, then random blocks both ways.
    for (int c = 0; c < 4; ++c) {
        float e[4] = {0, 0, 0, 0};
        e[c] = 1;
        const wagi::Quad q = wagi::haar_butterfly({{e[0], e[1], e[2], e[3]}});
        for (int r = 0; r < 4; ++r) expect_near(q.v[r], kMatrix[r][c], 0, "basis");
    }
    const std::vector<float> values = uniform(4000, 1);
    for (std::size_t i = 0; i < values.size(); i += 4) {
        const float* v = &values[i];
        const double block[4] = {v[0], v[1], v[2], v[3]};
        double want[2][4];
        multiply(block, want[0], false);
        multiply(block, want[1], true);
        float image[4] = {v[0], v[1], v[2], v[3]}, out[4], coefficients[4] = {v[0], v[1], v[2], v[3]}, back[4];
        const wagi::HaarLayout layout = wagi::linear_layout({1, 1, 2, 2});
        wagi::haar_block<true>(image, out, layout, {0, 0, 0, 0});
        wagi::haar_block<false>(coefficients, back, layout, {0, 0, 0, 0});
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
    const wagi::HaarLayout layout{0, 0, pitch, 1, 0, band, 0, band_pitch, 1};
    transform<true>(image, bands, {1, 1, h, w}, layout);
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
    transform<false>(bands, back, {1, 1, h, w}, layout);
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
    const wagi::HaarShape s{2, 3, 18, 22};
    const std::vector<float> original = uniform(s.n * s.c * s.h * s.w, 3);
    std::vector<float> bands(original.size()), back(original.size());
    transform<true>(original, bands, s, wagi::linear_layout(s));
    expect_near(energy(bands) / energy(original), 1, 1e-6, "energy");
    transform<false>(bands, back, s, wagi::linear_layout(s));
    for (std::size_t i = 0; i < back.size(); ++i) expect_near(back[i], original[i], 5e-7, "round trip");
}

#if defined(__FLT16_MAX__)
void test_half() {
    // Storage in half, arithmetic in float: every coefficient is the double result rounded once.
    const int h = 16, w = 12;
    const std::vector<float> values = uniform(h * w, 4);
    std::vector<_Float16> image(values.begin(), values.end()), bands(values.size());
    transform<true>(image, bands, {1, 1, h, w}, wagi::linear_layout({1, 1, h, w}));
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

template <typename T>
void expect_same(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
    expect_near(got.size(), want.size(), 0, what);
    for (std::size_t i = 0; i < want.size(); ++i)
        expect_near(static_cast<double>(got[i]), static_cast<double>(want[i]), 0, what);
}

// The vectorised path gives the very numbers of the simple one, at odd counts of pictures, colours and rows.
template <bool kForward, typename T>
void compare_columns(const char* what) {
    const int per_thread = wagi::kColumns<T>;
    for (const int vectors : {1, 3}) {
        const wagi::HaarShape s{3, 5, 6, 2 * vectors * per_thread};
        const std::vector<float> values = uniform(s.n * s.c * s.h * s.w, 5);
        const std::vector<T> in(values.begin(), values.end());
        std::vector<T> got(in.size(), static_cast<T>(std::nanf(""))), want(in.size());
        const wagi::HaarLayout layout = wagi::linear_layout(s);
        transform<kForward>(in, want, s, layout);
        each(s.n, s.c, s.h / 2, vectors, [&](wagi::HaarIndex x) {
            x.j *= per_thread;
            wagi::haar_columns<kForward>(in.data(), got.data(), layout, x);
        });
        expect_same(got, want, what);
    }
}

void test_columns() {
    compare_columns<true, float>("columns forward");
    compare_columns<false, float>("columns inverse");
#if defined(__FLT16_MAX__)
    compare_columns<true, _Float16>("half columns forward");
    compare_columns<false, _Float16>("half columns inverse");
#endif
}

// [N, C, H, W] -> [N, H, W, padded(C)] as TensorRT's headers describe kHWC8, written without wagi's layouts.
template <typename T>
std::vector<T> channels_last(const std::vector<T>& linear, int n, int c, int h, int w, float padding) {
    const int pitch = (c + 7) / 8 * 8;
    std::vector<T> out(static_cast<std::size_t>(n) * h * w * pitch, static_cast<T>(padding));
    for (int b = 0; b < n; ++b)
        for (int k = 0; k < c; ++k)
            for (int at = 0; at < h * w; ++at)
                out[(static_cast<std::size_t>(b) * h * w + at) * pitch + k] = linear[(b * c + k) * h * w + at];
    return out;
}

// What lies in the padding of the input is not read, what lies in the padding of the result is zero.
template <bool kForward, typename T>
void compare_hwc8(wagi::HaarShape s) {
    const float nan = std::nanf("");
    const std::vector<float> values = uniform(s.n * s.c * s.h * s.w, 6);
    const std::vector<T> linear(values.begin(), values.end());
    std::vector<T> result(linear.size());
    transform<kForward>(linear, result, s, wagi::linear_layout(s));
    const auto reorder = [&](const std::vector<T>& from, bool image, float padding) {
        return image ? channels_last(from, s.n, s.c, s.h, s.w, padding)
                     : channels_last(from, s.n, 4 * s.c, s.h / 2, s.w / 2, padding);
    };
    const std::vector<T> in = reorder(linear, kForward, nan), want = reorder(result, !kForward, 0);
    const wagi::HaarLayout layout = wagi::hwc8_layout(s);
    std::vector<T> got(want.size(), static_cast<T>(nan));
    transform<kForward>(in, got, s, layout);
    each(s.n, 1, s.h / 2, s.w / 2, [&](wagi::HaarIndex x) {
        wagi::haar_zero_padding<kForward>(got.data(), s.c, layout, x);
    });
    expect_same(got, want, "hwc8 block by block");
    if (s.c != 3) return;
    got.assign(want.size(), static_cast<T>(nan));
    each(s.n, 1, s.h / 2, s.w / 2, [&](wagi::HaarIndex x) {
        wagi::haar_rgb<kForward>(in.data(), got.data(), layout, x);
    });
    expect_same(got, want, "hwc8 in whole pixels");
}

void test_hwc8() {
    for (const int c : {1, 2, 3, 5, 8, 9}) {
        compare_hwc8<true, float>({3, c, 6, 10});
        compare_hwc8<false, float>({3, c, 6, 10});
#if defined(__FLT16_MAX__)
        compare_hwc8<true, _Float16>({2, c, 2, 6});
        compare_hwc8<false, _Float16>({2, c, 2, 6});
#endif
    }
}

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
        const wagi::HaarLayout layout = wagi::linear_layout({n, c, h, w});
        const std::vector<float> image = read(in, count), want = read(in, count);
        std::vector<float> bands(count), back(count);
        transform<true>(image, bands, {n, c, h, w}, layout);
        transform<false>(want, back, {n, c, h, w}, layout);
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
    else if (name == "columns") test_columns();
    else if (name == "hwc8") test_hwc8();
    else if (name == "golden" && argc > 2) test_golden(argv[2]);
    else {
        std::printf("usage: haar_math_test matrix|strides|roundtrip|half|columns|hwc8|golden GOLDEN_FILE\n");
        return 2;
    }
    std::printf("%s: %d failures\n", name.c_str(), failures);
    return failures ? 1 : 0;
}
