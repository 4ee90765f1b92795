// The plugins' contract as far as no GPU is needed. Usage: plugin_test LIBRARY
#include <NvInfer.h>

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <string>

namespace {

using namespace nvinfer1;

int failures = 0;

void expect(bool good, const char* what) {
    if (good) return;
    ++failures;
    std::printf("failed: %s\n", what);
}

// Keeps the last message, and is the finder that hands itself out.
struct Log final : ILogger, ILoggerFinder {
    std::string last;
    void log(Severity, const char* text) noexcept override { last = text; }
    ILogger* findLogger() override { return this; }
    InterfaceInfo getInterfaceInfo() const noexcept override { return ILogger::getInterfaceInfo(); }
};

PluginTensorDesc tensor(int64_t c, int64_t h, int64_t w, DataType type, TensorFormat format) {
    PluginTensorDesc made{};
    made.dims.nbDims = 4;
    const int64_t sides[4] = {2, c, h, w};
    std::memcpy(made.dims.d, sides, sizeof sides);
    made.type = type;
    made.format = format;
    return made;
}

void test_formats(IPluginV3OneBuild& build) {
    const auto supports = [&](int at, DataType t0, TensorFormat f0, DataType t1, TensorFormat f1) {
        DynamicPluginTensorDesc both[2] = {};
        both[0].desc = tensor(12, 8, 8, t0, f0);
        both[1].desc = tensor(12, 8, 8, t1, f1);
        return build.supportsFormatCombination(at, both, 1, 1);
    };
    constexpr auto kFloat = DataType::kFLOAT, kHalf = DataType::kHALF;
    constexpr auto kLinear = TensorFormat::kLINEAR, kHwc8 = TensorFormat::kHWC8;
    int count = 0;  // every pair of a type and a format, for the input
    for (const auto type : {kFloat, kHalf, DataType::kINT8, DataType::kBF16, DataType::kINT32})
        for (int format = 0; format < 13; ++format)
            count += supports(0, type, static_cast<TensorFormat>(format), kFloat, kLinear);
    expect(count == 3, "three combinations of type and format");
    expect(supports(0, kFloat, kLinear, kFloat, kLinear), "FP32 row-major");
    expect(supports(0, kHalf, kLinear, kFloat, kLinear), "FP16 row-major");
    expect(supports(0, kHalf, kHwc8, kFloat, kLinear), "FP16 HWC8");
    expect(supports(1, kHalf, kHwc8, kHalf, kHwc8), "output as the input");
    expect(!supports(1, kHalf, kHwc8, kHalf, kLinear), "no change of format inside");
    expect(!supports(1, kHalf, kLinear, kFloat, kLinear), "no change of type inside");
}

void test_identity(IPluginV3OneCore& core, IPluginV3OneBuild& build, IPluginV3OneRuntime& run,
                   const std::string& name) {
    expect(core.getPluginName() == name, "name");
    expect(core.getPluginVersion() == std::string("1"), "version");
    expect(core.getPluginNamespace() == std::string("wagi"), "namespace");
    expect(build.getNbOutputs() == 1, "one output");
    expect(build.getWorkspaceSize(nullptr, 0, nullptr, 0) == 0, "no workspace");
    expect(run.getFieldsToSerialize()->nbFields == 0, "nothing serialised");
}

void test_haar(IPluginV3& plugin, bool forward, Log& log) {
    auto* const core = static_cast<IPluginV3OneCore*>(plugin.getCapabilityInterface(PluginCapabilityType::kCORE));
    auto* const build = static_cast<IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
    auto* const run = static_cast<IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    const std::string name = forward ? "HaarDWT" : "HaarIDWT";
    test_identity(*core, *build, *run, name);
    test_formats(*build);

    const DataType half = DataType::kHALF, whole = DataType::kINT32;
    DataType out = whole;
    expect(build->getOutputDataTypes(&out, 1, &half, 1) == 0 && out == half, "output type");
    expect(build->getOutputDataTypes(&out, 1, &whole, 1) != 0, "integers are refused");
    expect(log.last == "wagi::" + name + ": needs one input of type float or half", "reason of the refusal");

    const auto change = [&](int64_t c, int64_t h, int64_t w) {
        const PluginTensorDesc in = tensor(c, h, w, DataType::kFLOAT, TensorFormat::kLINEAR);
        return run->onShapeChange(&in, 1, nullptr, 1);
    };
    expect(change(12, 6, 10) == 0, "a good shape");
    expect((change(12, 5, 10) != 0) == forward && (change(12, 6, 7) != 0) == forward, "odd sides of an image");
    expect((change(10, 6, 10) != 0) == !forward, "bands come in fours");
    // Null pointers are refused by the kernel's launcher before CUDA is asked for anything.
    const PluginTensorDesc image = tensor(3, 4, 4, DataType::kFLOAT, TensorFormat::kLINEAR);
    const PluginTensorDesc bands = tensor(12, 2, 2, DataType::kFLOAT, TensorFormat::kLINEAR);
    const void* const from[] = {nullptr};
    void* const to[] = {nullptr};
    const auto &in = forward ? image : bands, &result = forward ? bands : image;
    expect(run->enqueue(&in, &result, from, to, nullptr, nullptr) != 0, "a failed launch is reported");
    expect(log.last == "wagi::" + name + ": invalid argument", "reason of the failed launch");
}

void test_skip(IPluginV3& plugin, Log& log) {
    auto* const core = static_cast<IPluginV3OneCore*>(plugin.getCapabilityInterface(PluginCapabilityType::kCORE));
    auto* const build = static_cast<IPluginV3OneBuild*>(plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
    auto* const run = static_cast<IPluginV3OneRuntime*>(plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    test_identity(*core, *build, *run, "SkipUpsample");
    constexpr auto kFloat = DataType::kFLOAT, kHalf = DataType::kHALF;
    constexpr auto kLinear = TensorFormat::kLINEAR, kHwc8 = TensorFormat::kHWC8;
    const auto supports = [&](int at, DataType type, TensorFormat format, DataType first) {
        DynamicPluginTensorDesc all[3] = {};
        all[0].desc = tensor(12, 8, 8, first, kLinear);
        all[at].desc = tensor(12, 16, 16, type, format);
        return build->supportsFormatCombination(at, all, 2, 1);
    };
    expect(supports(0, kFloat, kLinear, kFloat) && supports(0, kHalf, kLinear, kHalf), "FP32 and FP16 row-major");
    expect(!supports(0, kHalf, kHwc8, kHalf) && !supports(0, DataType::kBF16, kLinear, kFloat), "and nothing else");
    expect(supports(1, kHalf, kLinear, kHalf) && supports(2, kHalf, kLinear, kHalf), "all three alike");
    expect(!supports(1, kHalf, kLinear, kFloat) && !supports(2, kHalf, kLinear, kFloat), "no two types");

    const DataType halves[2] = {kHalf, kHalf}, mixed[2] = {kHalf, kFloat};
    DataType out = kFloat;
    expect(build->getOutputDataTypes(&out, 1, halves, 2) == 0 && out == kHalf, "output type");
    expect(build->getOutputDataTypes(&out, 1, mixed, 2) != 0, "two types are refused");
    expect(log.last == "wagi::SkipUpsample: needs two inputs of one type, float or half", "reason of the refusal");

    const auto change = [&](int64_t c, int64_t h, int64_t w, int64_t c2, int64_t h2, int64_t w2) {
        const PluginTensorDesc in[2] = {tensor(c, h, w, kFloat, kLinear), tensor(c2, h2, w2, kFloat, kLinear)};
        return run->onShapeChange(in, 2, nullptr, 1);
    };
    expect(change(12, 3, 5, 12, 6, 10) == 0, "a good shape");
    expect(change(12, 3, 5, 12, 6, 11) != 0 && change(12, 3, 5, 12, 5, 10) != 0, "sides that are not twice as large");
    expect(change(12, 3, 5, 16, 6, 10) != 0 && change(10, 3, 5, 10, 6, 10) != 0, "channels");
    const PluginTensorDesc in[2] = {tensor(12, 2, 2, kFloat, kLinear), tensor(12, 4, 4, kFloat, kLinear)};
    const void* const from[] = {nullptr, nullptr};
    void* const to[] = {nullptr};
    expect(run->enqueue(in, in + 1, from, to, nullptr, nullptr) != 0, "a failed launch is reported");
    expect(log.last == "wagi::SkipUpsample: invalid argument", "reason of the failed launch");
}

}  // namespace

int main(int argc, char** argv) {
    void* const library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (!library) return std::printf("cannot load the library: %s\n", dlerror()), 1;
    using Creators = IPluginCreatorInterface* const*(int32_t&);
    auto* const creators = reinterpret_cast<Creators*>(dlsym(library, "getCreators"));
    auto* const find = reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
    if (!creators || !find) return std::printf("getCreators or setLoggerFinder is missing\n"), 1;
    Log log;
    find(&log);
    int32_t count = 0;
    IPluginCreatorInterface* const* const found = creators(count);
    expect(count == 3, "three creators");
    for (int32_t i = 0; i < count; ++i) {
        auto* const creator = static_cast<IPluginCreatorV3One*>(found[i]);
        const std::string name = creator->getPluginName();
        IPluginV3* const plugin = creator->createPlugin("any", creator->getFieldNames(), TensorRTPhase::kBUILD);
        IPluginV3* const copy = plugin->clone();
        delete plugin;
        name == "SkipUpsample" ? test_skip(*copy, log) : test_haar(*copy, name == "HaarDWT", log);
        delete copy;
    }
    std::printf("%d failures\n", failures);
    return failures ? 1 : 0;
}
