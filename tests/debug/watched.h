/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What tests of debug mode in one thread share: a cache with debug mode over a source that is stepped by hand, and
 * what it has reported.
 */
#ifndef TESTS_DEBUG_WATCHED_H
#define TESTS_DEBUG_WATCHED_H

#include "base/memory.h"
#include "common.h"
#include "debug_state.h"
#include "watch.h"

/* Bytes of an object, if a test does not say otherwise. */
#define WATCHED_SIZE 48
#define WATCHED_MOST 64

#define WATCHED_ALL                                                                                \
	(SHEAF_DEBUG_POISON | SHEAF_DEBUG_REDZONE | SHEAF_DEBUG_OWNER | SHEAF_DEBUG_TRACE |        \
	 SHEAF_DEBUG_LEAKS)

extern struct sheaf_gp_manual watched_manual;
extern struct sheaf_cache *watched;

struct watched_seen {
	unsigned n;
	enum sheaf_debug_kind kind[WATCHED_MOST];
	struct sheaf_debug_report last;
	char text[6144];
	char owner[32];
	size_t leaked;
};
extern struct watched_seen watched_seen;

/* For current_node: always the first one. */
int on_first_node(void *arg);

/* A cache that reports to watched_seen, which is emptied. Name, size and source are filled in if they
 * are missing. Asserts. */
struct sheaf_cache *watched_make(struct sheaf_debug_attr debug, struct sheaf_cache_attr attr);

/* The source anew, and a plain cache: watched. end: nothing is out, and it ends. */
void watched_begin(struct sheaf_debug_attr debug);
void watched_end(void);

/* An object of it; it must be had. */
void *watched_get(void);

/* What was retired is ripe. */
void watched_ripen(void);

/* Is the first address of a chain in the library? A build for a checker, or by a compiler that does not
 * optimise, has a call of ours between the user's and the place that asks for the address. */
bool watched_first_is_ours(void);

/* There was one report, of this kind and about this object. */
void watched_expect(enum sheaf_debug_kind kind, const void *object);

#endif
