#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
The outputs are well-formed and agree: JSON has the documented members; the page is
self-contained, nests properly, and shows each result of the JSON.
"""
import html.parser
import json
import os
import subprocess
import sys
import tempfile

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text, self.svgs = [], [], 0

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href") and value and not value.startswith("#"):
                raise ValueError(f"{tag} refers to {value}")
            if value and ("nan" in value.split() or "inf" in value.split()):
                raise ValueError(f"{tag} has {name}={value}")
        self.svgs += tag == "svg"
        if tag == "script":
            raise ValueError("a script")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            raise ValueError(f"</{tag}> closes something else")

    def handle_data(self, data):
        self.text.append(data)


def check_result(result):
    for name in ("scenario", "params", "competitor", "ns_op", "peak_kib"):
        assert name in result, (name, result)
    ns = result["ns_op"]
    assert 0 < ns["min"] <= ns["median"] <= ns["max"], ns
    assert result["peak_kib"] >= result["base_kib"] > 0, result
    if result["competitor"] == "libsheaf":
        assert result["ratio"] == 1 and result["params"]["slots"] and "trips" in result, result


def main():
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "out.json")
        subprocess.run([sys.argv[1], "pair", "retire", "tree-load", "--rounds", "2", "--seconds",
                        "0.02", "--peers", "limit,glibc,call_rcu+glibc,rbtree,std::map",
                        "--json", path, "--report", place], check=True, stdout=subprocess.DEVNULL)
        with open(path) as file:
            data = json.load(file)
        with open(os.path.join(place, "index.html")) as file:
            source = file.read()
    for name in ("cpu", "cores", "kernel", "libc", "peers"):
        assert data["machine"][name], name
    for result in data["results"]:
        check_result(result)
    page = Page()
    page.feed(source)
    page.close()
    assert not page.open, page.open
    text = " ".join(page.text)
    for result in data["results"]:
        assert result["competitor"] in text and result["scenario"] in text, result
    assert page.svgs >= len({json.dumps([r["scenario"], {k: v for k, v in r["params"].items()
                                                         if k != "slots"}])
                             for r in data["results"]}), page.svgs
    assert "memory" in next(r for r in data["results"] if r["scenario"] == "retire")
    print(f"{len(data['results'])} results, {page.svgs} plots")


main()
