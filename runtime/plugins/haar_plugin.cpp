// TensorRT plugins HaarDWT and HaarIDWT, version "1", namespace "wagi" (haar.md is the contract).
//
// Only getCreators and setLoggerFinder leave this library: IPluginRegistry::loadLibrary calls them, and
// nothing here needs libnvinfer. REGISTER_TENSORRT_PLUGIN is not used: it registers under "", where a look-up
// by our namespace finds nothing.
#include "haar_kernels.h"

#include <NvInfer.h>

#include <array>
#include <climits>
#include <new>
#include <string>

namespace {

using namespace nvinfer1;

ILoggerFinder* logger_finder = nullptr;

// Reports why TensorRT is about to give up; the result is the status that makes it do so.
int32_t refuse(const char* plugin, const char* what) noexcept try {
    ILogger* const logger = logger_finder ? logger_finder->findLogger() : nullptr;
    const std::string line = std::string("wagi::") + plugin + ": " + what;
    if (logger) logger->log(ILogger::Severity::kERROR, line.c_str());
    return -1;
} catch (...) {
    return -1;
}

class Haar final : public IPluginV3,
                   public IPluginV3OneCore,
                   public IPluginV3OneBuild,
                   public IPluginV3OneRuntime {
public:
    explicit Haar(bool forward) noexcept : forward_(forward) {}

    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
        switch (type) {
        case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
        case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
        case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }
    IPluginV3* clone() noexcept override { return new (std::nothrow) Haar(forward_); }
    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }

    const char* getPluginName() const noexcept override { return forward_ ? "HaarDWT" : "HaarIDWT"; }
    const char* getPluginVersion() const noexcept override { return "1"; }
    const char* getPluginNamespace() const noexcept override { return "wagi"; }
    const PluginFieldCollection* getFieldsToSerialize() noexcept override { return &fields_; }

    int32_t getNbOutputs() const noexcept override { return 1; }

    int32_t getOutputDataTypes(DataType* out, int32_t, const DataType* in,
                               int32_t inputs) const noexcept override {
        if (inputs != 1 || (in[0] != DataType::kFLOAT && in[0] != DataType::kHALF))
            return refuse(getPluginName(), "needs one input of type float or half");
        out[0] = in[0];
        return 0;
    }

    // [N, C, H, W] -> [N, 4C, H/2, W/2] or back; sides that are known now are checked now.
    int32_t getOutputShapes(const DimsExprs* in, int32_t inputs, const DimsExprs*, int32_t, DimsExprs* out,
                            int32_t, IExprBuilder& expressions) noexcept override {
        if (inputs != 1 || in[0].nbDims != 4) return refuse(getPluginName(), "needs one input [N, C, H, W]");
        for (int d = 1; d < 4; ++d)
            if (in[0].d[d]->isConstant() && in[0].d[d]->getConstantValue() % divisor(d)) return odd();
        const auto scaled = [&](int d, bool larger, int64_t factor) {
            const auto operation = larger ? DimensionOperation::kPROD : DimensionOperation::kFLOOR_DIV;
            return expressions.operation(operation, *in[0].d[d], *expressions.constant(factor));
        };
        out[0].nbDims = 4;
        out[0].d[0] = in[0].d[0];
        out[0].d[1] = scaled(1, forward_, 4);
        out[0].d[2] = scaled(2, !forward_, 2);
        out[0].d[3] = scaled(3, !forward_, 2);
        return 0;
    }

    // FP32 row-major, FP16 row-major or HWC8; the output as the input.
    bool supportsFormatCombination(int32_t pos, const DynamicPluginTensorDesc* all, int32_t,
                                   int32_t) noexcept override {
        const PluginTensorDesc &first = all[0].desc, &asked = all[pos].desc;
        if (pos > 0) return asked.type == first.type && asked.format == first.format;
        if (asked.type == DataType::kFLOAT) return asked.format == TensorFormat::kLINEAR;
        return asked.type == DataType::kHALF &&
               (asked.format == TensorFormat::kLINEAR || asked.format == TensorFormat::kHWC8);
    }

    int32_t configurePlugin(const DynamicPluginTensorDesc*, int32_t, const DynamicPluginTensorDesc*,
                            int32_t) noexcept override {
        return 0;
    }

    int32_t onShapeChange(const PluginTensorDesc* in, int32_t, const PluginTensorDesc*,
                          int32_t) noexcept override {
        for (int d = 0; d < 4; ++d) {
            if (in[0].dims.d[d] % divisor(d)) return odd();
            if (in[0].dims.d[d] > INT_MAX / 4) return refuse(getPluginName(), "a side is too large");
        }
        return 0;
    }

    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc* out, const void* const* inputs,
                    void* const* outputs, void*, cudaStream_t stream) noexcept override {
        const Dims& image = forward_ ? in[0].dims : out[0].dims;
        if (image.d[0] == 0) return 0;  // an empty batch is not an error
        const auto side = [&](int d) { return static_cast<int>(image.d[d]); };
        const int type = in[0].type == DataType::kHALF ? WAGI_HALF : WAGI_FLOAT;
        const int layout = in[0].format == TensorFormat::kHWC8 ? WAGI_HWC8 : WAGI_LINEAR;
        const int status = (forward_ ? wagi_haar_forward : wagi_haar_inverse)(
            inputs[0], outputs[0], side(0), side(1), side(2), side(3), type, layout, stream);
        return status ? refuse(getPluginName(), cudaGetErrorString(static_cast<cudaError_t>(status))) : 0;
    }

private:
    // What side d of the input must be a multiple of.
    int64_t divisor(int d) const noexcept {
        if (forward_) return d >= 2 ? 2 : 1;
        return d == 1 ? 4 : 1;
    }
    int32_t odd() const noexcept {
        const char* const rule = forward_ ? "height and width must be even" : "channels must be a multiple of 4";
        return refuse(getPluginName(), rule);
    }

    bool forward_;
    PluginFieldCollection fields_{};  // nothing to serialise: the name says it all
};

class HaarCreator final : public IPluginCreatorV3One {
public:
    explicit HaarCreator(bool forward) noexcept : forward_(forward) {}

    IPluginV3* createPlugin(const char*, const PluginFieldCollection*, TensorRTPhase) noexcept override {
        return new (std::nothrow) Haar(forward_);
    }
    const PluginFieldCollection* getFieldNames() noexcept override { return &fields_; }
    const char* getPluginName() const noexcept override { return Haar(forward_).getPluginName(); }
    const char* getPluginVersion() const noexcept override { return Haar(forward_).getPluginVersion(); }
    const char* getPluginNamespace() const noexcept override { return Haar(forward_).getPluginNamespace(); }

private:
    bool forward_;
    PluginFieldCollection fields_{};
};

}  // namespace

extern "C" WAGI_API IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static HaarCreator forward(true), inverse(false);
    static const std::array<IPluginCreatorInterface*, 2> creators{&forward, &inverse};
    count = static_cast<int32_t>(creators.size());
    return creators.data();
}

extern "C" WAGI_API void setLoggerFinder(ILoggerFinder* finder) { logger_finder = finder; }
