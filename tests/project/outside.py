# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""A program outside the tree finds and runs the library: installed, through pkg-config and CMake,
shared and static, as C11 and as C++17, optimised as a whole (-flto) too; and as a Meson subproject,
which installs nothing.

usage: outside.py SOURCE_ROOT BUILD_ROOT CXX CC [CC_ARG...]
       outside.py --installed ROOT CXX CC [CC_ARG...]         what is installed below ROOT already

With SHEAF_FULL the subproject is built once more, as a static library optimised as a whole.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

PROGRAM = """
#include <sheaf/cache.h>
#include <sheaf/tree.h>
#include <stdio.h>

int main(void)
{
	struct sheaf_cache_attr attr = {};
	struct sheaf_cache *cache;
	void *object;

	attr.size = sizeof(attr);
	attr.object_size = 100;
	if (sheaf_cache_create(&cache, &attr))
		return 1;
	object = sheaf_cache_alloc(cache, 0);
	if (!object)
		return 2;
	sheaf_cache_free(cache, object);
	if (sheaf_cache_destroy(cache, NULL))
		return 3;
	puts("outside: ok");
	return 0;
}
"""

# Memory for a container of Concurrency Kit.
CK_PROGRAM = """
#include <ck_array.h>
#include <sheaf/ck_malloc.h>
#include <stdio.h>

static struct sheaf_ck_memory memory;
SHEAF_CK_MALLOC(allocator, &memory);

int main(void)
{
	struct sheaf_gp_manual manual;
	ck_array_t array;

	sheaf_gp_manual_init(&manual, 1);
	if (sheaf_ck_memory_init(&memory, &manual.gp) || !ck_array_init(&array, CK_ARRAY_MODE_SPMC, &allocator, 4))
		return 1;
	ck_array_deinit(&array, false);
	sheaf_gp_manual_step(&manual);
	if (sheaf_ck_memory_fini(&memory, NULL))
		return 2;
	puts("outside: ok");
	return 0;
}
"""

CMAKE = """cmake_minimum_required(VERSION 3.16)
project(outside C)
find_package(libsheaf 0.1 REQUIRED COMPONENTS ck)
foreach(kind sheaf static)
  add_executable(outside-${kind} outside.c)
  set_property(TARGET outside-${kind} PROPERTY C_STANDARD 11)
  target_link_libraries(outside-${kind} sheaf::${kind})
endforeach()
add_executable(outside-ck outside-ck.c)
target_link_libraries(outside-ck sheaf::ck)
# Of another series, or without what was asked for, it is not found.
foreach(version 0.2 1.0)
  find_package(libsheaf ${version} QUIET CONFIG)
  if(libsheaf_FOUND)
    message(FATAL_ERROR "found for version ${version}")
  endif()
endforeach()
find_package(libsheaf QUIET CONFIG COMPONENTS nothing)
if(libsheaf_FOUND)
  message(FATAL_ERROR "found a component that is not there")
endif()
"""

MESON = """project('outside', 'c')
dep = dependency('libsheaf', fallback: 'libsheaf')
test('outside', executable('outside', 'outside.c', dependencies: dep))
"""


def run(*command, **keywords):
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **keywords)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def ran(exe, env):
    if run(exe, env=env) != "outside: ok\n":
        sys.exit(f"{exe.name} printed something else")


def by_pkg_config(libdir, env, cxx, cc, work):
    """As C11 and C++17, shared and static, plain and optimised as a whole."""
    flags = run("pkg-config", "--cflags", "--libs", "libsheaf", env=env).split()
    static = [str(libdir / "libsheaf.a") if f == "-lsheaf" else f for f in flags]
    programs = 0
    for language, compiler in (("c", [*cc, "-std=c11"]), ("c++", [cxx, "-std=c++17"])):
        source = work / f"outside.{'c' if language == 'c' else 'cc'}"
        source.write_text(PROGRAM)
        for kind, libs in (("shared", flags), ("static", [*static, "-pthread"])):
            for lto in ([], ["-O2", "-flto"]):
                exe = work / f"outside-{language}-{kind}{'-lto' if lto else ''}"
                run(*compiler, *lto, "-Wall", "-Werror", source, "-o", exe, *libs)
                ran(exe, env)
                programs += 1
    flags = run("pkg-config", "--cflags", "--libs", "libsheaf-ck", env=env).split()
    (work / "outside-ck.c").write_text(CK_PROGRAM)
    run(*cc, "-std=c11", "-Wall", work / "outside-ck.c", "-o", work / "outside-ck", *flags)
    ran(work / "outside-ck", env)
    print(f"installed: {programs + 1} programs ran")


def by_cmake(libdir, env, cc, work):
    if not shutil.which("cmake"):
        print("no cmake here")
        if os.environ.get("SHEAF_FULL"):
            sys.exit("with SHEAF_FULL it has to be")
        return
    (work / "CMakeLists.txt").write_text(CMAKE)
    (work / "outside.c").write_text(PROGRAM)
    build = work / "cmake"
    run("cmake", "-S", work, "-B", build, f"-DCMAKE_C_COMPILER={cc[0]}",
        f"-Dlibsheaf_DIR={libdir / 'cmake/libsheaf'}", env=env)
    run("cmake", "--build", build, env=env)
    for kind in ("sheaf", "static", "ck"):
        ran(build / f"outside-{kind}", env)
    print("installed: 3 programs ran by CMake")


def installed(dest, cxx, cc, work):
    if dest == pathlib.Path("/"):
        pc = pathlib.Path(run("pkg-config", "--variable=pcfiledir", "libsheaf").strip(), "libsheaf.pc")
        env = os.environ
    else:
        pc = next(dest.rglob("libsheaf.pc"))
        env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(dest),
                   LD_LIBRARY_PATH=str(pc.parent.parent))
    libdir = pc.parent.parent
    by_pkg_config(libdir, env, cxx, cc, work)
    by_cmake(libdir, env, cc, work)


def subproject(root, work):
    outer = work / "outer"
    (outer / "subprojects").mkdir(parents=True)
    (outer / "subprojects/libsheaf").symlink_to(root)
    (outer / "meson.build").write_text(MESON)
    (outer / "outside.c").write_text(PROGRAM)
    run("meson", "setup", outer / "build", outer)
    run("meson", "test", "-C", outer / "build")
    run("meson", "install", "-C", outer / "build", "--destdir", work / "nothing")
    left = [f for f in (work / "nothing").rglob("*") if f.is_file()]
    if left:
        sys.exit(f"a subproject installed {left}")
    print("subproject: built, ran, installed nothing")


def whole(work):
    """A static library, it and the program optimised as a whole."""
    outer = work / "outer"
    run("meson", "setup", outer / "lto", outer, "-Ddefault_library=static", "-Db_lto=true", "--buildtype=release")
    run("meson", "test", "-C", outer / "lto")
    print("subproject: static with -flto built, ran")


def main(root, build, cxx, *cc):
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        if root == "--installed":
            installed(pathlib.Path(build).resolve(), cxx, cc, work)
            return 0
        run("meson", "install", "-C", build, "--no-rebuild", "--destdir", work / "dest")
        installed(work / "dest", cxx, cc, work)
        subproject(pathlib.Path(root).resolve(), work)
        if os.environ.get("SHEAF_FULL"):
            whole(work)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
