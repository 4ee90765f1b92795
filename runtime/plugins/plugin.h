// What our TensorRT plugins share: their identity, one output, nothing to serialise, and a creator.
#pragma once

#include <NvInfer.h>

#include <climits>
#include <new>

namespace wagi {

// Reports why TensorRT is about to give up; the result is the status that makes it do so.
int32_t refuse(const char* plugin, const char* what) noexcept;

// A stateless plugin of version "1" in the namespace "wagi"; the name says it all.
class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
public:
    explicit Plugin(const char* name) noexcept : name_(name) {}

    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
        switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }
    IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }

    const char* getPluginName() const noexcept override { return name_; }
    const char* getPluginVersion() const noexcept override { return "1"; }
    const char* getPluginNamespace() const noexcept override { return "wagi"; }
    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override { return &fields_; }

    int32_t getNbOutputs() const noexcept override { return 1; }

    int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc*, int32_t,
                            const nvinfer1::DynamicPluginTensorDesc*, int32_t) noexcept override {
        return 0;
    }

protected:
    int32_t refuse(const char* what) const noexcept { return wagi::refuse(name_, what); }

private:
    const char* name_;
    nvinfer1::PluginFieldCollection fields_{};
};

// Makes plugins by copying the one that it was given.
class Creator final : public nvinfer1::IPluginCreatorV3One {
public:
    explicit Creator(Plugin& first) noexcept : first_(first) {}

    nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection*,
                                      nvinfer1::TensorRTPhase) noexcept override {
        return first_.clone();
    }
    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &fields_; }
    const char* getPluginName() const noexcept override { return first_.getPluginName(); }
    const char* getPluginVersion() const noexcept override { return first_.getPluginVersion(); }
    const char* getPluginNamespace() const noexcept override { return first_.getPluginNamespace(); }

private:
    Plugin& first_;
    nvinfer1::PluginFieldCollection fields_{};
};

// Defined beside each plugin.
Plugin& haar_plugin(bool forward);
Plugin& skip_plugin();

}  // namespace wagi
