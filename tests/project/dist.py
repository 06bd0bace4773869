# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""The archive of a release depends on nothing but the commit, and who packs it: made by "meson dist" from two clones, with
another umask, time zone and language, it has the same bytes.

usage: dist.py SOURCE_ROOT     skips (77) unless SHEAF_FULL is set, or outside of a git repository
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

PARTS = ["-Dtests=disabled", "-Dtools=disabled", "-Dexamples=disabled"]


def made(root, work, umask, env):
    """Name and digest of the archive."""
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "umask": umask,
             "env": dict(os.environ, **env)}
    work.mkdir()
    subprocess.run(["git", "clone", "--quiet", root, work / "source"], **quiet)
    subprocess.run(["meson", "setup", *PARTS, work / "build", work / "source"], **quiet)
    subprocess.run(["meson", "dist", "-C", work / "build", "--no-tests"], **quiet)
    archive = next((work / "build/meson-dist").glob("*.tar.xz"))
    return archive.name, hashlib.sha256(archive.read_bytes()).hexdigest()


def main(root):
    inside = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL).returncode == 0
    if not os.environ.get("SHEAF_FULL") or not inside:
        print("makes two archives of a git repository: only with SHEAF_FULL=1")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        one = made(root, work / "one", 0o022, {"TZ": "UTC", "LC_ALL": "C"})
        two = made(root, work / "another", 0o077, {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8"})
    print(*one)
    if one != two:
        print("not the same:", *two)
    return one != two


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
