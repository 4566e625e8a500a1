// _host: what is not a tensor op.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "csrc/host/files.h"
#include "csrc/host/jpeg.h"
#include "csrc/host/permutations.h"
#include "csrc/ops/common/lab_gamut.h"
#include "csrc/ops/common/philox.h"
#include "csrc/ops/common/view_fields.h"
#include "csrc/stable/isa.h"

namespace py = pybind11;

#define SSLFAST_NAME(name) #name,

namespace {

using Bytes = py::array_t<uint8_t, py::array::c_style>;

py::tuple read_files(const std::vector<std::tuple<py::bytes, int64_t, int64_t>>& files, Bytes memory) {
  std::vector<sslfast::FilePiece> pieces;
  for (const auto& [path, offset, size] : files) pieces.push_back({path, offset, size, false});
  int64_t bytes;
  {
    const py::gil_scoped_release others_run;
    bytes = sslfast::find_pieces(pieces);
  }
  if (bytes > memory.size()) memory = Bytes(bytes + bytes / 4);  // the next files may be a little longer
  uint8_t* target = memory.mutable_data();
  {
    const py::gil_scoped_release others_run;
    sslfast::read_pieces(pieces, target);
  }
  py::list ends, whole;
  int64_t end = 0;
  for (const sslfast::FilePiece& piece : pieces) {
    ends.append(end += piece.size);
    whole.append(piece.whole);
  }
  return py::make_tuple(memory, ends, whole);
}

}  // namespace

PYBIND11_MODULE(_host, module) {
  module.doc() =
      "What is not a tensor op: build information, the names of the augmentation's columns, Philox, reading files, the "
      "headers of JPEG files, permutations, the bins of the ab plane.";
  module.attr("AUGMENT_COLUMNS") = py::tuple(py::cast(std::vector<std::string>{SSLFAST_AUGMENT_COLUMNS(SSLFAST_NAME)}));
  module.attr("VIEW_FIELDS") = py::tuple(py::cast(std::vector<std::string>{SSLFAST_VIEW_FIELDS(SSLFAST_NAME)}));
  module.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = SSLFAST_BUILD_VERSION;
        info["compiler"] = SSLFAST_BUILD_COMPILER;
        info["isas"] = SSLFAST_BUILD_ISAS;
        info["active_isa"] = sslfast::isa_names[static_cast<int>(sslfast::active_isa())];
        info["cuda"] = static_cast<bool>(SSLFAST_BUILD_CUDA);
        info["cuda_architectures"] = SSLFAST_BUILD_CUDA_ARCHITECTURES;
        info["cuda_compiler"] = SSLFAST_BUILD_CUDA_COMPILER;
        return info;
      },
      "What this build contains and uses: version, compiler, isas, active_isa, cuda, cuda_architectures, "
      "cuda_compiler.");
  module.def(
      "philox",
      [](uint64_t key, std::array<uint32_t, 4> counter) {
        const sslfast::Philox out = sslfast::philox(key, counter[0], counter[1], counter[2], counter[3]);
        return std::array<uint32_t, 4>{out.word[0], out.word[1], out.word[2], out.word[3]};
      },
      py::arg("key"), py::arg("counter"), "Philox4x32-10: four 32-bit words from a 64-bit key and a 128-bit counter.");
  module.def("read_files", &read_files, py::arg("files"), py::arg("memory"),
             "Reads files, each (path, offset, size), a negative size for all of it, one after the other into memory, "
             "or into new memory where that is too small: (memory, where each ends, whether each was there whole).");
  module.def(
      "jpeg_header",
      [](const Bytes& content) {
        const sslfast::JpegHeader header = sslfast::jpeg_header(content.data(), content.size());
        return py::make_tuple(header.components, header.height, header.width);
      },
      py::arg("content"),
      "(components, height, width) of an encoded JPEG file: components 1 gray, 3 colour, 4 inks, 0 for what is no JPEG "
      "file or is damaged; height and width as shown, 0 where the file does not say them plainly or has no end.");
  module.def("permutation_set", &sslfast::permutation_set, py::arg("tiles"), py::arg("count"),
             "`count` different permutations of 0 … tiles - 1 (at most 9 tiles) with large Hamming distances.");
  module.def(
      "ab_bins",
      [] {
        const sslfast::LabGamut& gamut = sslfast::lab_gamut();
        std::vector<std::pair<int, int>> bins;
        for (int c = 0; c < sslfast::lab_gamut_columns; ++c) {
          for (int i = 0; i < gamut.count[c]; ++i) {
            bins.emplace_back(10 * (c - sslfast::lab_gamut_reach), 10 * (gamut.row[c] + i));
          }
        }
        return bins;
      },
      "(a, b) of the 313 bins around the sRGB colours, in the order of their numbers.");
}
