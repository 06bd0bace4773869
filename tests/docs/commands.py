# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Every command that README.md and the guides show is run, as shown and in order: the lines of their
sh blocks, those of the README first, in an empty home and a fresh clone of this tree, those of each
guide in that clone, with the program that the README has built. What is not run is in the table
below, with the reason; SHEAF_FULL=1 runs what is only long.

usage: commands.py SOURCE_ROOT
"""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

# What is not run: the page, the line as a regular expression, and what covers it instead.
NOT_RUN = [
    ("README.md", r"sudo apt-get install (?P<packages>.*)", "needs root; the packages are compared with tools/setup.sh"),
    ("README.md", r"\./tools/check( --\w+)*", "runs this test"),
    ("doc/performance.md", r"tools/bench-peers( .*)?", "installs peers and takes minutes; tests of suite bench run the scenarios"),
    ("doc/performance.md", r"tools/bench/tables\.py FILE", "needs the figures of a whole run; tests/bench/tables.py has short ones"),
    ("doc/trace.md", r"(record-trace|sheaf-replay) .*", "needs the tools, and leave to trace; tests of suite replay run both"),
    ("doc/statistics.md", r"sheaf-stat( .*)?", "wants a process that runs on; tests/stats has one"),
    ("doc/probes.md", r"bpftrace .*", "needs root; tests of suite probes read the scripts and the library's notes"),
    ("doc/packaging.md", r"ninja -C build/gcc abi-baseline", "changes the tree; the test abi-baseline compares with what it wrote"),
]
LONG = [r"\./tools/try"]
# Those that are shown because they fail.
FAILS = [r"SHEAF_DEBUG=fail=.*"]


def lines_of(page):
    """The commands of a page, without the comments behind them."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        for line in block.replace("\\\n", " ").split("\n"):
            line = re.sub(r"\s+#.*", "", line).strip()
            if line and not line.startswith("#"):
                found.append(line)
    return found


def packages_wrong(root, words):
    """Does the README name other packages than the scripts install?"""
    text = (root / "tools/setup.sh").read_text(encoding="utf-8")
    base = set(re.search(r'BASE_PACKAGES="([^"]*)"', text)[1].split())
    # zlib is for the tools, which the README does not build there.
    return set(words.split()) ^ (base - {"zlib1g-dev"})


def script(root, page, lines, full, used):
    """What bash is to do, and what is wrong before it does anything."""
    out, wrong = ["set -e"], []
    for line in lines:
        rule = next((r for r in NOT_RUN if r[0] == page and re.fullmatch(r[1], line)), None)
        if not rule and not full and any(re.fullmatch(r, line) for r in LONG):
            continue
        if rule:
            used.add(rule)
            named = re.fullmatch(rule[1], line).groupdict().get("packages")
            if named and packages_wrong(root, named):
                wrong.append(f"packages: {' '.join(packages_wrong(root, named))} in one list and not in the other")
            continue
        out.append(f"printf '+ %s\\n' {shlex.quote(line)}")
        out.append(f"! {line}" if any(re.fullmatch(f, line) for f in FAILS) else line)
        if out[-1].startswith("! "):
            out[-1] = f"if {line}; then echo 'did not fail'; exit 1; fi"
    return "\n".join(out) + "\n", wrong


def run(text, where, env):
    """Its exit code, what it said, and the environment and folder it ended with."""
    state = where.parent / "state"
    done = subprocess.run(["bash", "-c", text + f"pwd >{state}; printf '%s\\n' \"$PKG_CONFIG_PATH\" >>{state}"], cwd=where, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout, state.read_text().split("\n") if not done.returncode else []


def clone_of(root, to):
    """The tree as it is now, as a repository."""
    shutil.copytree(root, to, symlinks=True,
                    ignore=lambda folder, names: [n for n in names if n in (".git", "__pycache__") or
                                                  (pathlib.Path(folder) == root and n.startswith("build"))])
    git = ["git", "-C", to, "-c", "user.name=test", "-c", "user.email=test@invalid"]
    for what in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "tree"]):
        subprocess.run([*git, *what], check=True)


def finds_fault(root, where, env):
    """A command that fails makes a page fail."""
    text, _ = script(root, "README.md", ["true", "false", "true"], False, set())
    return run(text, where, env)[0] != 0


def main(root):
    root = pathlib.Path(root).resolve()
    if not shutil.which("git"):
        print("git is not there")
        return 77
    full = bool(os.environ.get("SHEAF_FULL"))
    bad, count, used = 0, 0, set()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder, "work")
        work.mkdir()
        (pathlib.Path(folder) / "home").mkdir()
        clone_of(root, pathlib.Path(folder, "origin"))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SHEAF_", "MESON", "PKG_CONFIG", "CFLAGS", "LD_"))}
        env.update(HOME=f"{folder}/home", URL=f"{folder}/origin", GIT_CONFIG_NOSYSTEM="1", PKG_CONFIG_PATH="")
        if not finds_fault(root, work, env):
            print("a command that fails is not found")
            return 1
        pages = [root / "README.md"] + sorted((root / "doc").rglob("*.md"))
        program = None
        for page in pages:
            lines = lines_of(page)
            if not lines:
                continue
            if page.name == "README.md" and page.parent == root:
                # The scripts are shown first, for who is in a clone already.
                lines = [l for l in lines if not l.startswith("./tools")] + [l for l in lines if l.startswith("./tools")]
            elif program:
                shutil.copy(program, work / "program")
            name = str(page.relative_to(root))
            text, wrong = script(root, name, lines, full, used)
            code, said, state = run(text, work, env)
            count += said.count("\n+ ") + said.startswith("+ ")
            if code or wrong:
                bad += 1
                print(f"{name}: exit code {code} {' '.join(wrong)}\n{said[-3000:]}")
            if not program:
                if code:
                    return 1
                work, env["PKG_CONFIG_PATH"] = pathlib.Path(state[0]), state[1]
                program = work.parent / "program"
                shutil.copy(work / "program", program)
    for rule in NOT_RUN:
        if rule not in used and (root / rule[0]).is_file():
            bad += 1
            print(f"{rule[0]} has no line {rule[1]}: take it from the table")
    print(f"{count} commands run, {bad} pages wrong")
    return 1 if bad or count < 10 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
