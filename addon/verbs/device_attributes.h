// Devices, ports and GIDs as objects of JavaScript (DeviceAttributes in src/native/verbs.ts).
#pragma once

#include <infiniband/verbs.h>
#include <napi.h>

#include "failure.h"

namespace backdoors::verbs {

// An empty value, and `failure` says why.
Napi::Value DescribeDevice(Napi::Env env, ibv_context* context, Failure* failure);

// Opens each device of this machine for a moment. Throws VERBS_CALL_FAILED.
Napi::Value ListDevices(const Napi::CallbackInfo& info);

std::string GidText(const ibv_gid& gid);

}  // namespace backdoors::verbs
