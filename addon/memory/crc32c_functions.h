// The functions of JavaScript over crc32c.h.
#pragma once

#include <napi.h>

namespace backdoors::memory {

void DefineCrc32c(Napi::Env env, Napi::Object exports);

}  // namespace backdoors::memory
