# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
tests/project/samples.py finds samples that are not what they are said to be: in a small tree that it
takes, one thing at a time is wrong.

usage: samples_bad.py SOURCE_ROOT
"""
import json
import pathlib
import subprocess
import sys
import tempfile

SOURCE = """/* SPDX-License-Identifier: MIT */

#include <stdio.h>

struct thing {
	int n;
};

/* Says it. */
static void say(const char *words)
{
	puts(words);
}

int main(void)
{
	say("here");
	return 0;
}
"""
SAY = SOURCE[SOURCE.index("/* Says"):SOURCE.index("\nint main")]
THING = SOURCE[SOURCE.index("struct"):SOURCE.index("\n/* Says")]
PAGE = f"""# Page

<!-- sample: examples/say.c -->
```c
{SOURCE.split(chr(10), 2)[2]}```

<!-- sample: examples/say.c#thing,say -->
```c
{THING}
{SAY}```
"""
FAULTS = [
    ("int n;", "long n;", "a sample differs from its file"),
    ("#thing,say", "#say,thing", "a sample differs from its file"),
    ("#thing,say", "#thing,shout", "no such sample: shout"),
    ("say.c#thing", "said.c#thing", "no such sample"),
    ("<!-- sample: examples/say.c -->\n", "", "a C block that is no sample"),
]


def main(root):
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        for name in "examples", "doc", "build":
            (tree / name).mkdir()
        (tree / "README.md").write_text("# Nothing\n")
        (tree / "examples/say.c").write_text(SOURCE)
        commands = tree / "build/compile_commands.json"

        def run(page, compiled):
            (tree / "doc/page.md").write_text(page)
            commands.write_text(json.dumps([{"directory": folder, "file": "examples/say.c"}] if compiled else []))
            done = subprocess.run([sys.executable, root / "tests/project/samples.py", tree, tree / "build"],
                                  stdout=subprocess.PIPE, text=True, check=False)
            return done.returncode, done.stdout

        code, said = run(PAGE, True)
        if code:
            sys.exit(f"the page without a fault is refused:\n{said}")
        wrong = 0
        cases = [(PAGE.replace(good, bad, 1), True, message) for good, bad, message in FAULTS]
        cases.append((PAGE, False, "a sample that is not compiled"))
        for page, compiled, message in cases:
            code, said = run(page, compiled)
            if code != 1 or message not in said:
                wrong += 1
                print(f"wanted {message!r}, exit code {code}:\n{said}")
    print(f"{len(cases)} faults, {wrong} not found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
