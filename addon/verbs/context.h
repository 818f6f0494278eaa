// An open device.
#pragma once

#include <infiniband/verbs.h>

#include <memory>
#include <string>

#include "failure.h"

namespace backdoors::verbs {

class Context {
 public:
  // Null, and `failure` says why. An unknown name gives DEVICE_NOT_FOUND, with the names there are.
  static std::shared_ptr<Context> Open(const std::string& name, Failure* failure);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  ibv_context* get() const { return context_; }
  const std::string& name() const { return name_; }

 private:
  Context(ibv_context* context, std::string name) : context_(context), name_(std::move(name)) {}

  ibv_context* context_;
  std::string name_;
};

}  // namespace backdoors::verbs
