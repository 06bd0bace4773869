# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
tools/bench/tables.py puts the figures of a run into a page, leaves alone what the run does not have,
and says so.

usage: tables.py SHEAF_BENCH TABLES_PY
"""
import json
import pathlib
import subprocess
import sys
import tempfile

PAIR = "<!-- table pair -->\n| old |\n<!-- end -->\n"
PAGE = "# Page\n\n" + PAIR + "\nProse.\n"
OTHER = "<!-- table larson -->\n| old |\n<!-- end -->\n"


def main(bench, tables):
    with tempfile.TemporaryDirectory() as folder:
        run, page = pathlib.Path(folder, "run.json"), pathlib.Path(folder, "page.md")
        subprocess.run([bench, "pair", "--rounds", "1", "--seconds", "0.01", "--threads", "1", "--peers", "glibc", "--json", run],
                       check=True, stdout=subprocess.DEVNULL)
        results = [r for r in json.loads(run.read_text())["results"] if r["scenario"] == "pair"]
        wrong = []
        for text, code in ((PAGE, 0), (PAGE + OTHER, 1)):
            page.write_text(text)
            done = subprocess.run([sys.executable, tables, run, page], stderr=subprocess.PIPE, text=True, check=False)
            new = page.read_text()
            if done.returncode != code or ("larson" in done.stderr) != bool(code):
                wrong.append(f"exit code {done.returncode}: {done.stderr}")
            if "| libsheaf | **" not in new or "| glibc | " not in new or "\nProse.\n" not in new or PAIR in new:
                wrong.append(f"the page is wrong:\n{new}")
            for result in results:
                if f"({result['ratio']:.2f})" not in new and result["competitor"] != "libsheaf":
                    wrong.append(f"no ratio {result['ratio']}")
            if OTHER in text and OTHER not in new:
                wrong.append("a table that is not of the run has changed")
    for line in wrong:
        print(line)
    print(f"{len(results)} results, {len(wrong)} wrong")
    return 1 if wrong or len(results) < 2 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
