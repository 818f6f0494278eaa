// What JavaScript calls to restore connections and to let them live.
#pragma once

#include <napi.h>

namespace backdoors::network {

void DefineConnectionFunctions(Napi::Env env, Napi::Object exports);

}  // namespace backdoors::network
