// TensorRT plugins HaarDWT and HaarIDWT (haar.md is the contract).
#include "haar_kernels.h"
#include "plugin.h"

namespace {

using namespace nvinfer1;

class Haar final : public wagi::Plugin {
public:
    explicit Haar(bool forward) noexcept : Plugin(forward ? "HaarDWT" : "HaarIDWT"), forward_(forward) {}

    IPluginV3* clone() noexcept override { return new (std::nothrow) Haar(forward_); }

    int32_t getOutputDataTypes(DataType* out, int32_t, const DataType* in,
                               int32_t inputs) const noexcept override {
        if (inputs != 1 || (in[0] != DataType::kFLOAT && in[0] != DataType::kHALF))
            return refuse("needs one input of type float or half");
        out[0] = in[0];
        return 0;
    }

    // [N, C, H, W] -> [N, 4C, H/2, W/2] or back; sides that are known now are checked now.
    int32_t getOutputShapes(const DimsExprs* in, int32_t inputs, const DimsExprs*, int32_t, DimsExprs* out,
                            int32_t, IExprBuilder& expressions) noexcept override {
        if (inputs != 1 || in[0].nbDims != 4) return refuse("needs one input [N, C, H, W]");
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

    int32_t onShapeChange(const PluginTensorDesc* in, int32_t, const PluginTensorDesc*,
                          int32_t) noexcept override {
        for (int d = 0; d < 4; ++d) {
            if (in[0].dims.d[d] % divisor(d)) return odd();
            if (in[0].dims.d[d] > INT_MAX / 4) return refuse("a side is too large");
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
        return status ? refuse(cudaGetErrorString(static_cast<cudaError_t>(status))) : 0;
    }

private:
    // What side d of the input must be a multiple of.
    int64_t divisor(int d) const noexcept {
        if (forward_) return d >= 2 ? 2 : 1;
        return d == 1 ? 4 : 1;
    }
    int32_t odd() const noexcept {
        const char* const rule = forward_ ? "height and width must be even" : "channels must be a multiple of 4";
        return refuse(rule);
    }

    bool forward_;
};

}  // namespace

wagi::Plugin& wagi::haar_plugin(bool forward) {
    static Haar forwards(true), inverse(false);
    return forward ? forwards : inverse;
}
