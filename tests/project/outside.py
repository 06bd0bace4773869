# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""A program outside the tree finds and runs the library: installed, through pkg-config, shared
and static, as C11 and as C++17; and as a Meson subproject, which installs nothing.

usage: outside.py SOURCE_ROOT BUILD_ROOT CXX CC [CC_ARG...]
"""
import os
import pathlib
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


def installed(build, cxx, cc, work):
    dest = work / "dest"
    run("meson", "install", "-C", build, "--no-rebuild", "--destdir", dest)
    pc = next(dest.rglob("libsheaf.pc"))
    env = dict(os.environ, PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(dest),
               LD_LIBRARY_PATH=str(pc.parent.parent))
    flags = run("pkg-config", "--cflags", "--libs", "libsheaf", env=env).split()
    static = [str(next(dest.rglob("libsheaf.a"))) if f == "-lsheaf" else f for f in flags]
    for language, compiler in (("c", [*cc, "-std=c11"]), ("c++", [cxx, "-std=c++17"])):
        source = work / f"outside.{'c' if language == 'c' else 'cc'}"
        source.write_text(PROGRAM)
        for kind, libs in (("shared", flags), ("static", [*static, "-pthread"])):
            exe = work / f"outside-{language}-{kind}"
            run(*compiler, "-Wall", "-Werror", source, "-o", exe, *libs)
            if run(exe, env=env) != "outside: ok\n":
                sys.exit(f"{exe.name} printed something else")
    print("installed: 4 programs ran")


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


def main(root, build, cxx, *cc):
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        installed(build, cxx, cc, work)
        subproject(pathlib.Path(root).resolve(), work)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
