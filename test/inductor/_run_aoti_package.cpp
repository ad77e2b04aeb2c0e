// Owner(s): ["module: inductor"]
//
// Runs an AOTInductor package on lists of tensors, in a process without Python:
//
//   run_aoti_package PACKAGE GIVEN RETURNED [SCHEMA...]
//
// GIVEN is a list of calls' arguments, written by torch.save. RETURNED gets a list of
// pairs: what each call returned, and its arguments afterwards. Each SCHEMA is of an op
// that takes the exponential of its only argument.

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <ATen/core/ivalue.h>
#include <ATen/ops/exp.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/library.h>

// torch/csrc/jit/serialization/pickle.h, without the compiler that it brings along.
namespace torch::jit {
TORCH_API std::vector<char> pickle_save(const c10::IValue& value);
TORCH_API c10::IValue pickle_load(const std::vector<char>& data);
} // namespace torch::jit

namespace {

std::vector<char> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::vector<char>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

at::Tensor exponential(const at::Tensor& x) {
  return at::exp(x);
}

} // namespace

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  torch::Library ops(
      torch::Library::FRAGMENT, NAMESPACE, std::nullopt, __FILE__, __LINE__);
  for (size_t i = 3; i < words.size(); ++i) {
    const auto name = words[i].substr(0, words[i].find('('));
    ops.def(torch::schema(words[i].c_str()));
    ops.impl(name.c_str(), exponential);
  }
  torch::inductor::AOTIModelPackageLoader loader(words.at(0));
  c10::List<c10::IValue> results(c10::AnyType::get());
  const c10::IValue calls = torch::jit::pickle_load(read(words.at(1)));
  for (const c10::IValue& call : calls.toListRef()) {
    std::vector<at::Tensor> given;
    for (const c10::IValue& argument : call.toListRef()) {
      given.push_back(argument.toTensor());
    }
    std::vector<at::Tensor> returned = loader.run(given);
    results.push_back(c10::ivalue::Tuple::create({returned, given}));
  }
  write(words.at(2), torch::jit::pickle_save(results));
  return EXIT_SUCCESS;
}
