# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
The generator finds what is wrong: in a small tree that it takes, one thing at a time is broken, and
it has to fail and say so.

usage: bad.py SOURCE_ROOT
"""
import pathlib
import subprocess
import sys
import tempfile

HEADER = '''/**
 * @file sheaf/thing.h
 * A thing. How it works stands in lib/thing.c.
 */
#ifndef SHEAF_THING_H
#define SHEAF_THING_H

#include <stdint.h>

/** Most of it. */
#define SHEAF_THING_MAX 7

/** A thing in the caller's memory. */
struct sheaf_thing {
	/** How many. */
	uint32_t count;
	/* private */
	uint32_t secret;
};

/** Colours of things. */
enum sheaf_thing_colour {
	/** Like grass. */
	SHEAF_THING_GREEN
};

/** Called for a thing. */
typedef void sheaf_thing_fn(struct sheaf_thing *thing);

/** Private to the library: half of it. */
static inline int sheaf_thing_half(void)
{
	return 1;
}

/**
 * Count a thing up to SHEAF_THING_MAX, see sheaf_thing.count.
 *
 * @param thing which
 * @param n, times by how many, and how often
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: 0.
 */
int sheaf_thing_count(struct sheaf_thing *thing, uint32_t n, int times);

/**
 * Count none.
 *
 * Context, Ordering, Progress: as sheaf_thing_count().
 */
void sheaf_thing_none(struct sheaf_thing *thing);

#endif
'''
CXX = '''/**
 * @file sheaf/thing.hpp
 * Things for C++.
 */
#ifndef SHEAF_THING_HPP
#define SHEAF_THING_HPP

namespace libsheaf
{

/** One of them. */
template <class T> class thing : public base
{
      public:
	using type = T;

	/** Make one. Context: any. Ordering: none. Progress: wait-free. */
	explicit thing(int n) noexcept : n_{n}, m_(2)
	{
	}

	thing(const thing &) = delete;

	/**
	 * How many.
	 *
	 * Context, Ordering, Progress: as sheaf_thing_count(). Throws: nothing.
	 */
	int count() const
	{
		return n_;
	}

      private:
	int half();
	int n_, m_;
};

}

#endif
'''
README = '''# libsheaf

Things, in short.

A second paragraph names `sheaf_thing_count()`, [a guide](doc/guide.md), [a part](doc/guide.md#the-part) of it and
[a file](lib/thing.c).

![A picture](doc/picture.svg)
'''
FILES = {
    "include/sheaf/thing.h": HEADER,
    "include/sheaf/thing.hpp": CXX,
    "lib/thing.c": "int sheaf_thing_count(struct sheaf_thing *thing)\n{\n\treturn 0;\n}\n",
    "README.md": README,
    "doc/README.md": "# Contents\n\n## Guides\n\n- [A guide](guide.md)\n",
    "doc/guide.md": "# A guide\n\n## The part\n\n[Back](../README.md#libsheaf), [here](#the-part). `SHEAF_THING_MAX` is seven.\n",
    "doc/picture.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
}
H, R, G, C = "include/sheaf/thing.h", "README.md", "doc/guide.md", "include/sheaf/thing.hpp"
# What is replaced by what, in which file, and what is to be said of it.
FAULTS = [
    (H, "/** Most of it. */\n", "", "SHEAF_THING_MAX is not documented"),
    (H, "/** Most of it. */", "/* Most of it. */", "SHEAF_THING_MAX is not documented"),
    (H, "/** A thing in the caller's memory. */\n", "", "sheaf_thing is not documented"),
    (H, "	/** How many. */\n", "", "sheaf_thing.count is not documented"),
    (H, "	/* private */\n", "\n", "sheaf_thing.secret is not documented"),
    (H, "	/** Like grass. */\n", "", "SHEAF_THING_GREEN is not documented"),
    (H, "/** Colours of things. */\n", "", "sheaf_thing_colour is not documented"),
    (H, "/** Called for a thing. */\n", "", "sheaf_thing_fn is not documented"),
    (H, "/** Private to the library: half of it. */\n", "", "sheaf_thing_half is not documented"),
    (H, "Private to the library: half", "Half", "sheaf_thing_half: the contract has no Context"),
    (H, " * Context: any. Ordering: none.", " * Ordering: none.", "sheaf_thing_count: the contract has no Context"),
    (H, " Ordering: none.", "", "sheaf_thing_count: the contract has no Ordering"),
    (H, " Progress: wait-free.", "", "sheaf_thing_count: the contract has no Progress"),
    (H, " * Return: 0.\n", "", "sheaf_thing_count: the contract has no Return"),
    (H, "Context, Ordering, Progress: as", "Context, Ordering: as", "sheaf_thing_none: the contract has no Progress"),
    (H, "as sheaf_thing_count().\n", "as there.\n * Return: 1.\n", "sheaf_thing_none: returns nothing, but has a Return"),
    (H, "@param thing which", "@param things which", "@param things is no parameter"),
    (H, "@param n, times by", "@param n by", "parameter times is not documented"),
    (H, " */\nvoid sheaf_thing_none", " */\n\nvoid sheaf_thing_none", "sheaf_thing_none is not documented"),
    (H, "up to SHEAF_THING_MAX", "up to SHEAF_THING_MOST", "there is no SHEAF_THING_MOST"),
    (H, "see sheaf_thing.count", "see sheaf_thing.number", "there is no sheaf_thing.number"),
    (H, "as sheaf_thing_count()", "as sheaf_thing_add()", "there is no sheaf_thing_add()"),
    (H, "lib/thing.c.", "lib/things.c.", "there is no lib/things.c"),
    (H, " * @file sheaf/thing.h\n", "", "no comment with @file"),
    (R, "`sheaf_thing_count()`", "`sheaf_thing_add()`", "README.md: there is no sheaf_thing_add()"),
    (R, "doc/guide.md)", "doc/guides.md)", "README.md: a link to doc/guides.md, which is not there"),
    (R, "#the-part", "#a-part", "README.md: there is no #a-part in guide.html"),
    (R, "lib/thing.c", "lib/other.c", "README.md: a link to lib/other.c, which is not there"),
    (R, "doc/picture.svg", "doc/photo.svg", "README.md: a picture doc/photo.svg, which is not there"),
    (R, "![A picture]", "![]", "picture doc/picture.svg has no text"),
    (G, "(#the-part)", "(#part)", "doc/guide.md: there is no #part in guide.html"),
    (G, "README.md#libsheaf", "README.md#top", "doc/guide.md: there is no #top in index.html"),
    (G, "`SHEAF_THING_MAX`", "`SHEAF_THING_MOST`", "doc/guide.md: there is no SHEAF_THING_MOST"),
    (G, "# A guide\n\n## The part\n", "A guide\n", "doc/guide.md: has no heading"),
    (C, "/** One of them. */\n", "", "libsheaf::thing is not documented"),
    (C, "	/** Make one. Context: any. Ordering: none. Progress: wait-free. */\n", "", "thing.thing is not documented"),
    (C, " Context: any. Ordering: none.", " Ordering: none.", "libsheaf::thing::thing: the contract has no Context"),
    (C, "Context, Ordering, Progress: as", "Context, Progress: as", "libsheaf::thing::count: the contract has no Ordering"),
    (C, "as sheaf_thing_count()", "as sheaf_thing_add()", "there is no sheaf_thing_add()"),
    (C, "      private:\n", "      public:\n", "thing.half is not documented"),
    (G, "`SHEAF_THING_MAX`", "`<sheaf/things.h>`", "there is no <sheaf/things.h>"),
]


def run(root, tree):
    """As a program, as the build runs it."""
    done = subprocess.run([sys.executable, "-B", root / "tools/docs", tree], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def problems(website, tree):
    """In this process, which is faster."""
    site = website.Site(tree)
    if not site.problems:
        site.build()
    return site.problems


def main(root):
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(root / "tools/docs"))
    website = __import__("website")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        for path, text in FILES.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text, encoding="utf-8")
        code, said = run(root, tree)
        if code:
            sys.exit(f"the tree without a fault is refused:\n{said}")
        for path, good, bad, message in FAULTS:
            if FILES[path].count(good) < 1:
                sys.exit(f"{path} has no {good!r}")
            (tree / path).write_text(FILES[path].replace(good, bad, 1), encoding="utf-8")
            said = "\n".join(problems(website, tree))
            if message not in said:
                wrong += 1
                print(f"{path} with {bad!r} for {good!r}: wanted {message!r}:\n{said}")
            if (path, good, bad, message) in (FAULTS[0], FAULTS[-1]) and run(root, tree)[0] != 1:
                wrong += 1
                print(f"{message}: the build would not fail")
            (tree / path).write_text(FILES[path], encoding="utf-8")
    print(f"{len(FAULTS)} faults, {wrong} not found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
