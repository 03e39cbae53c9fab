"""Builds the extension modules. Everything declarative stands in pyproject.toml; here is what it cannot say: each
instruction set's kernels are compiled with flags of their own, FASTCONV_DEBUG=1 turns every check on, and with
FASTCONV_CUDA=1 a wheel brings kernels for GPUs along as machine code (.ci/prebuild.py), as version x.y.z+cu13."""

import os
import platform
import subprocess
import sys
import sysconfig
import tomllib
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

import numpy
from Cython.Build import cythonize
from pybind11.setup_helpers import Pybind11Extension
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.egg_info import egg_info
from setuptools.errors import CCompilerError, CompileError, LinkError, PlatformError
from setuptools.modified import newer_group

DEBUG = os.environ.get("FASTCONV_DEBUG") == "1"
CUDA = os.environ.get("FASTCONV_CUDA") == "1" and "sdist" not in sys.argv
MSVC = sys.platform == "win32"
CPU = "fastconv/backends/cpu"
NEEDS_COMPILER = (
    "fastconv: no working C++17 compiler was found, and this platform has no ready-made wheel: install g++ or clang++ "
    "(Debian and Ubuntu: apt install g++; macOS: xcode-select --install; Windows: Visual Studio Build Tools) and try "
    "again."
)


def machine():
    """The processor that the build is for: the interpreter's platform, which a cross build sets, not the host's."""
    target = sysconfig.get_platform().rsplit("-", 1)[-1].lower()
    return platform.machine().lower() if target == "universal2" else target


if MSVC:
    COMMON = ["/std:c++17", "/O2", "/EHsc"]
    ISA_FLAGS = {"scalar": [], "avx2": ["/arch:AVX2"], "avx512": ["/arch:AVX512"], "neon": []}
    ISA_FLAGS["avx512_bf16"] = ISA_FLAGS["avx512"]
else:
    # Contraction would fuse or not fuse a product and a sum as the optimiser likes, and so change bits between kernels.
    COMMON = ["-std=c++17", "-fvisibility=hidden", "-ffp-contract=off", "-pthread"]
    COMMON += ["-O1", "-g1", "-D_GLIBCXX_ASSERTIONS", "-DFC_DEBUG"] if DEBUG else ["-O3", "-g0", "-fno-math-errno"]
    ISA_FLAGS = {
        "scalar": [] if DEBUG else ["-O2"],  # 0.94 times as fast, and 190 KB less of a wheel
        "avx2": ["-mavx2", "-mfma"],
        # GCC 12 warns of its own header avx512fintrin.h.
        "avx512": ["-mavx2", "-mfma", "-mavx512f", "-Wno-uninitialized", "-Wno-maybe-uninitialized"],
        "neon": [],
    }
    ISA_FLAGS["avx512_bf16"] = [*ISA_FLAGS["avx512"], "-mavx512bw", "-mavx512bf16"]
# GCC 12's vectoriser of loops made scalar weight gradients read a pixel beyond the last. Clang lacks the option.
SCALAR_IF_KNOWN = "-fno-tree-loop-vectorize"
ISAS = ["scalar", "neon"] if machine() in ("arm64", "aarch64") else ["scalar", "avx2", "avx512", "avx512_bf16"]
LINK = [] if MSVC else ["-pthread"] if DEBUG else ["-pthread", "-s"] if sys.platform == "linux" else ["-pthread"]
OWN_SOURCES = {  # C++ that exactly one extension links, what takes longest first
    "runtime": sorted(glob("csrc/runtime/*.cpp")),
    "dispatch": [f"csrc/targets/{isa}.cpp" for isa in reversed(ISAS)] + sorted(glob("csrc/dispatch/*.cpp")),
}
INCLUDE = ["csrc", "csrc/include"]
DEPENDS = [name for name in glob("csrc/**/*", recursive=True) if name.endswith((".h", ".hpp", ".def", ".cpp"))]


class BuildExtensions(build_ext):
    """Compile all C++ side by side, each target with its own flags, and say plainly if there is no compiler.

    Cython runs here, not whenever somebody asks for metadata or the sdist.
    """

    def build_extensions(self):
        self.check_extensions_list(self.extensions)
        translate(self.extensions)  # by processes: before there are threads
        pool = ThreadPoolExecutor(self.parallel or os.cpu_count() or 1)
        try:
            objects = {one.name: self._own_objects(pool, one) for one in self.extensions}
            last = sorted(self.extensions, key=lambda one: len(objects[one.name]))  # what waits for objects of its own
            built = [pool.submit(self._built, one, objects[one.name]) for one in last]
            for future in built:
                future.result()
        except (CCompilerError, CompileError, LinkError, PlatformError) as error:
            if self._compiles():
                raise
            raise SystemExit(NEEDS_COMPILER) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def _own_objects(self, pool, extension):
        sources = OWN_SOURCES.get(extension.name.rsplit(".", 1)[-1], [])
        return [pool.submit(self._compiled, extension, source) for source in sources]

    def _built(self, extension, objects):
        extension.extra_objects += [name for future in objects for name in future.result()]
        self.build_extension(extension)

    def _compiled(self, extension, source):
        flags = ISA_FLAGS[Path(source).stem] if "/targets/" in source else []
        folder = self.build_temp + ("_debug" if DEBUG else "")
        objects = self.compiler.object_filenames([source], output_dir=folder)
        if not self.force and not newer_group([source, "setup.py", *extension.depends], objects[0]):
            return objects
        if Path(source).stem == "scalar" and not MSVC and self._compiles("-Werror", SCALAR_IF_KNOWN):
            flags = [*flags, SCALAR_IF_KNOWN]
        return self.compiler.compile([source], folder, include_dirs=INCLUDE, extra_postargs=COMMON + flags)

    def _compiles(self, *flags):
        probe = Path(self.build_temp) / "probe.cpp"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("int main() { return 0; }\n")
        try:
            self.compiler.compile([str(probe)], output_dir=self.build_temp, extra_postargs=[*COMMON[:1], *flags])
        except Exception:  # every compiler class fails in its own way
            return False
        return True


class Build(build):
    """With FASTCONV_CUDA=1, let what was built record and compile the kernels that it would start on a GPU."""

    def run(self):
        super().run()
        if CUDA:
            folder = Path(self.build_lib, "fastconv/backends/cuda/prebuilt").absolute()
            environment = {**os.environ, "PYTHONPATH": str(Path(self.build_lib).absolute())}
            subprocess.run([sys.executable, ".ci/prebuild.py", str(folder)], env=environment, check=True)


class EggInfo(egg_info):
    """With FASTCONV_CUDA=1, a version of its own. An option would not do: the sdist's setup.cfg sets it to nothing."""

    def finalize_options(self):
        if CUDA:
            self.tag_build = "+cu13"
        super().finalize_options()


def options_for_cuda():
    """What the build of a wheel for GPUs needs: the package itself runs in it."""
    if not CUDA:
        return {}
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["cuda13"]]
    return {"setup_requires": needed}


def extension(source):
    return Extension(
        source.removesuffix(".pyx").replace("/", "."),
        [source],
        include_dirs=[*INCLUDE, numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_25_API_VERSION")],
        depends=DEPENDS,
        extra_compile_args=[*COMMON, *([] if DEBUG or MSVC else ["-O2"])],  # the loops that count are the kernels'
        extra_link_args=LINK,
        language="c++",
    )


def translate(modules):
    """Make C++ of Cython, and let the extensions have it as their sources."""
    written = [module for module in modules if module.sources[0].endswith(".pyx")]
    made = cythonize(
        written,
        nthreads=0 if MSVC else os.cpu_count() or 1,
        build_dir=f"build/cython{'_debug' if DEBUG else ''}",  # what is newer than its source is not made anew
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
        },
    )
    for module, translated in zip(written, made, strict=True):
        module.sources = translated.sources


def extensions():
    compiled = ["fastconv/_tape.pyx", "fastconv/nn/_units.pyx", *sorted(glob(f"{CPU}/*.pyx"))]
    modules = [extension(source) for source in compiled]
    for source in glob("csrc/bindings/*.cpp"):
        name = f"fastconv.backends.cpu.{Path(source).stem}"
        paths = {"include_dirs": INCLUDE, "depends": DEPENDS}
        modules.append(Pybind11Extension(name, [source], extra_compile_args=COMMON, extra_link_args=LINK, **paths))
    return modules


if __name__ == "__main__":
    if sys.platform == "darwin" and sysconfig.get_platform().endswith("universal2"):  # kernels are one processor's
        os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
    commands = {"build": Build, "build_ext": BuildExtensions, "egg_info": EggInfo}
    setup(ext_modules=extensions(), cmdclass=commands, **options_for_cuda())
