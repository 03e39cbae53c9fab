// The laboratory window: call one micro-kernel by name, on raw arguments, for tests and micro-benchmarks. No maths here.
//
// The arguments travel as the bytes of the kernel's struct (include/fastconv/*.h), which the caller lays out, with ctypes
// for instance, and whose pointers the caller keeps alive. The tables come from fastconv.backends.cpu.dispatch, the
// one extension that links the kernels, as a capsule.
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/round_trip.hpp"
#include "fastconv/kernels.h"

namespace py = pybind11;

namespace {

using Lookup = const fc_kernels* (*)(int isa, int dtype);

struct Row {
    const char* name;
    size_t bytes;
    void (*call)(const fc_kernels&, const void*);
};

const Row rows[] = {
#define FC_KERNEL(name, args) \
    {#name, sizeof(args), [](const fc_kernels& table, const void* a) { table.name(static_cast<const args*>(a)); }},
#include "dispatch/kernels.def"
#undef FC_KERNEL
};

const Row& find(const std::string& name) {
    for (const Row& row : rows) {
        if (name == row.name) return row;
    }
    throw py::key_error("no micro-kernel is called '" + name + "'");
}

const fc_kernels& table(int isa, int dtype) {
    const py::capsule lookup = py::module_::import("fastconv.backends.cpu.dispatch").attr("_kernels_for")();
    const fc_kernels* found = reinterpret_cast<Lookup>(lookup.get_pointer())(isa, dtype);
    if (!found) throw py::value_error("this processor or this build has no such instruction set or dtype");
    return *found;
}

}  // namespace

PYBIND11_MODULE(_lab, m) {
    m.doc() = "One micro-kernel at a time, for tests and micro-benchmarks.";
    m.def("argument_sizes", [] {
        py::dict sizes;
        for (const Row& row : rows) sizes[row.name] = row.bytes;
        return sizes;
    }, "The kernels' names and the sizes of their argument structs in bytes.");
    m.def("block_sizes", [](int isa, int dtype) {
        const fc_kernels& t = table(isa, dtype);
        return py::make_tuple(t.width, t.mr, t.nr);
    }, py::arg("isa"), py::arg("dtype"), "Vector width, pixels and columns of the register tile.");
    m.def("widest", [](int isa, int dtype) { return table(isa, dtype).wide; }, py::arg("isa"), py::arg("dtype"),
          "Columns that conv_tile takes at most: one panel or two.");
    m.def("call", [](const std::string& name, int isa, int dtype, const py::bytes& arguments) {
        const Row& row = find(name);
        const std::string bytes = arguments;
        if (bytes.size() != row.bytes) {
            throw py::value_error(name + ": expected " + std::to_string(row.bytes) + " bytes of arguments, got " +
                                  std::to_string(bytes.size()));
        }
        const fc_kernels& t = table(isa, dtype);
        py::gil_scoped_release release;
        row.call(t, bytes.data());
    }, py::arg("name"), py::arg("isa"), py::arg("dtype"), py::arg("arguments"), "Run one micro-kernel.");
    m.def("round_trip", &fastconv::round_trip, py::call_guard<py::gil_scoped_release>(),
          "Nanoseconds that a cache line takes to another processor and back; NaN where there is no other.");
}
