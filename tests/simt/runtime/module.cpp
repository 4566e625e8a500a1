#include "module.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>

namespace simt {
namespace {

// "tile" of "_ZZN7sslfast6kernelEPfE4tile".
std::string variable_name(const char* symbol) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(symbol, nullptr, nullptr, &status),
                                                         &std::free);
  const std::string name = status == 0 ? text.get() : symbol;
  const size_t last = name.rfind("::");
  return last == std::string::npos ? name : name.substr(last + 2);
}

// `__shared__` makes thread-local variables: the symbol table of the library says which bytes of its thread-local block
// belong to which.
std::vector<Region> shared_variables(const char* library, uintptr_t thread_local_block) {
  std::ifstream stream(library, std::ios::binary);
  const std::vector<char> file((std::istreambuf_iterator<char>(stream)), {});
  std::vector<Region> regions;
  if (file.size() < sizeof(ElfW(Ehdr))) return regions;
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(file.data());
  const auto* sections = reinterpret_cast<const ElfW(Shdr)*>(file.data() + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const auto* symbols = reinterpret_cast<const ElfW(Sym)*>(file.data() + sections[i].sh_offset);
    const char* names = file.data() + sections[sections[i].sh_link].sh_offset;
    for (size_t k = 0; k < sections[i].sh_size / sizeof(ElfW(Sym)); ++k) {
      if (ELF64_ST_TYPE(symbols[k].st_info) != STT_TLS || symbols[k].st_size == 0) continue;
      regions.push_back({thread_local_block + symbols[k].st_value, symbols[k].st_size, Space::shared,
                         variable_name(names + symbols[k].st_name)});
    }
  }
  std::sort(regions.begin(), regions.end(), [](const Region& a, const Region& b) { return a.begin < b.begin; });
  return regions;
}

struct Search {
  uintptr_t kernel;
  std::map<uintptr_t, Module> modules;  // by load address
  Module* found;
};

int visit(dl_phdr_info* info, size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  std::vector<Segment> segments;
  bool holds_kernel = false;
  bool has_thread_local = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    has_thread_local = has_thread_local || header.p_type == PT_TLS;
    if (header.p_type != PT_LOAD) continue;
    const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
    segments.push_back({begin, begin + header.p_memsz, (header.p_flags & PF_W) != 0});
    holds_kernel = holds_kernel || (search.kernel >= begin && search.kernel < begin + header.p_memsz);
  }
  if (!holds_kernel) return 0;
  const auto block = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
  Module& module = search.modules[info->dlpi_addr];
  // Another thread of the host has another thread-local block.
  if (module.segments.empty() || (!module.shared.empty() && !module.shared.front().holds(block))) {
    module.segments = std::move(segments);
    module.shared = has_thread_local && block != 0 ? shared_variables(info->dlpi_name, block) : std::vector<Region>{};
  }
  search.found = &module;
  return 1;
}

}  // namespace

Module& module_of(const void* kernel) {
  static Search search;
  search.kernel = reinterpret_cast<uintptr_t>(kernel);
  search.found = nullptr;
  dl_iterate_phdr(visit, &search);
  static Module none;
  return search.found != nullptr ? *search.found : none;
}

}  // namespace simt
