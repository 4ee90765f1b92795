// Calls the plugins of libwagi_trt.so as TensorRT does at run time: creator, plugin, onShapeChange,
// attachToContext, enqueue, directly and inside a CUDA graph. Compares with haar_math.h on the host.
//   plugin_enqueue LIBRARY        prints one line per case: name, largest difference, "ok" or "WRONG"
// Methods of a C++ plugin cannot be called from Python, so this is a program of its own.
#include "../../runtime/plugins/haar_math.h"

#include <NvInfer.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace nvinfer1;

void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    std::fprintf(stderr, "error: %s: %s\n", what, cudaGetErrorString(status));
    std::exit(1);
}

struct Case {
    bool forward, half, hwc8;
    wagi::HaarShape shape;
};

PluginTensorDesc describe(const Case& c, bool image) {
    PluginTensorDesc desc{};
    desc.dims.nbDims = 4;
    const int64_t sides[4] = {c.shape.n, image ? c.shape.c : 4 * c.shape.c, image ? c.shape.h : c.shape.h / 2,
                              image ? c.shape.w : c.shape.w / 2};
    std::copy(sides, sides + 4, desc.dims.d);
    desc.type = c.half ? DataType::kHALF : DataType::kFLOAT;
    desc.format = c.hwc8 ? TensorFormat::kHWC8 : TensorFormat::kLINEAR;
    desc.scale = 1.f;
    return desc;
}

std::size_t elements(const Case& c, bool image) {
    const int channels = image ? c.shape.c : 4 * c.shape.c;
    const std::size_t plane = static_cast<std::size_t>(c.shape.h) * c.shape.w / (image ? 1 : 4);
    return c.shape.n * plane * (c.hwc8 ? wagi::padded(channels) : channels);
}

template <bool kForward, typename T>
void on_host(const Case& c, const std::vector<T>& in, std::vector<T>& out) {
    const wagi::HaarLayout layout = c.hwc8 ? wagi::hwc8_layout(c.shape) : wagi::linear_layout(c.shape);
    for (int n = 0; n < c.shape.n; ++n)
        for (int k = 0; k < c.shape.c; ++k)
            for (int i = 0; i < c.shape.h / 2; ++i)
                for (int j = 0; j < c.shape.w / 2; ++j)
                    wagi::haar_block<kForward>(in.data(), out.data(), layout, {n, k, i, j});
}

template <typename T>
double largest_difference(const std::vector<T>& a, const std::vector<T>& b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(static_cast<double>(static_cast<float>(a[i])) - static_cast<float>(b[i]));
        if (!(difference <= largest)) largest = difference;  // NaN wins
    }
    return largest;
}

// The difference after a plain enqueue and after the replay of a captured one.
template <typename T>
std::pair<double, double> enqueue(IPluginV3& plugin, const Case& c) {
    auto* const runtime = static_cast<IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    if (!runtime) std::exit((std::fprintf(stderr, "error: no runtime capability\n"), 1));
    const PluginTensorDesc in = describe(c, c.forward), out = describe(c, !c.forward);
    if (runtime->onShapeChange(&in, 1, &out, 1)) std::exit((std::fprintf(stderr, "error: onShapeChange\n"), 1));
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<T> source(elements(c, c.forward)), wanted(elements(c, !c.forward), T(0.f)), found(wanted.size());
    for (T& value : source) value = T(normal(random));
    c.forward ? on_host<true>(c, source, wanted) : on_host<false>(c, source, wanted);

    void *device_in = nullptr, *device_out = nullptr;
    cudaStream_t stream = nullptr;
    const std::size_t in_bytes = source.size() * sizeof(T), out_bytes = found.size() * sizeof(T);
    check(cudaMalloc(&device_in, in_bytes), "malloc");
    check(cudaMalloc(&device_out, out_bytes), "malloc");
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    check(cudaMemcpy(device_in, source.data(), in_bytes, cudaMemcpyHostToDevice), "upload");
    const void* const inputs[] = {device_in};
    void* const outputs[] = {device_out};
    const auto run = [&] {
        if (runtime->enqueue(&in, &out, inputs, outputs, nullptr, stream))
            std::exit((std::fprintf(stderr, "error: enqueue refused\n"), 1));
    };
    const auto result = [&] {
        check(cudaStreamSynchronize(stream), "synchronise");
        check(cudaMemcpy(found.data(), device_out, out_bytes, cudaMemcpyDeviceToHost), "download");
        return largest_difference(found, wanted);
    };
    run();
    const double plain = result();

    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    check(cudaMemset(device_out, 0xff, out_bytes), "clear");
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
    run();
    check(cudaStreamEndCapture(stream, &graph), "end capture");
    check(cudaGraphInstantiate(&replay, graph, 0), "instantiate");
    check(cudaGraphLaunch(replay, stream), "launch");
    const double captured = result();
    for (const auto status : {cudaGraphExecDestroy(replay), cudaGraphDestroy(graph), cudaStreamDestroy(stream),
                              cudaFree(device_in), cudaFree(device_out)})
        check(status, "free");
    return {plain, captured};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: plugin_enqueue LIBRARY\n"), 2;
    void* const library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) return std::fprintf(stderr, "error: %s\n", dlerror()), 1;
    using Creators = IPluginCreatorInterface* const* (*)(int32_t&);
    const auto creators = reinterpret_cast<Creators>(dlsym(library, "getCreators"));
    if (!creators) return std::fprintf(stderr, "error: no getCreators\n"), 1;
    int32_t count = 0;
    IPluginCreatorInterface* const* const found = creators(count);
    int wrong = 0;
    for (int32_t i = 0; i < count; ++i) {
        auto* const creator = static_cast<IPluginCreatorV3One*>(found[i]);
        const std::string name = creator->getPluginName();
        const PluginFieldCollection none{0, nullptr};
        IPluginV3* const made = creator->createPlugin(name.c_str(), &none, TensorRTPhase::kRUNTIME);
        auto* const core = static_cast<IPluginV3OneRuntime*>(made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
        IPluginV3* const plugin = core->attachToContext(nullptr);
        for (const wagi::HaarShape shape : {wagi::HaarShape{1, 3, 64, 64}, {2, 3, 34, 18}, {3, 5, 6, 10}})
            for (const auto& [half, hwc8] : {std::pair{false, false}, {true, false}, {true, true}}) {
                const Case c{name == "HaarDWT", half, hwc8, shape};
                const auto [plain, captured] = half ? enqueue<__half>(*plugin, c) : enqueue<float>(*plugin, c);
                const double limit = half ? 1.0 / 256 : 2e-6;  // one unit in the last place of values below 8
                const bool good = plain <= limit && captured <= limit;
                wrong += !good;
                std::printf("%s %s %s %dx%dx%dx%d %.3g %.3g %s\n", name.c_str(), half ? "fp16" : "fp32",
                            hwc8 ? "hwc8" : "linear", shape.n, shape.c, shape.h, shape.w, plain, captured,
                            good ? "ok" : "WRONG");
            }
        delete plugin;
        delete made;
    }
    return wrong ? 1 : 0;
}
