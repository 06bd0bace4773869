/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* std::map. */
#include "module_map.hh"

#include <cstdio>
#include <map>

static void version(char *text, size_t bytes)
{
	std::snprintf(text, bytes, "libstdc++ %d", _GLIBCXX_RELEASE);
}

extern "C" const bench_peer bench_peer;
extern "C" const struct bench_peer bench_peer = {nullptr, &map_points<std::map<uint64_t, void *>>::ops,
						 &map_ranges<std::map<uint64_t, map_range>>::ops,
						 version, nullptr};
