/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* absl::btree_map. */
#include "module_map.hh"

#include <absl/base/config.h>
#include <absl/container/btree_map.h>
#include <cstdio>

static void version(char *text, size_t bytes)
{
	std::snprintf(text, bytes, "%d", ABSL_LTS_RELEASE_VERSION);
}

extern "C" const bench_peer bench_peer;
extern "C" const struct bench_peer bench_peer = {
	nullptr, &map_points<absl::btree_map<uint64_t, void *>>::ops,
	&map_ranges<absl::btree_map<uint64_t, map_range>>::ops, version, nullptr};
