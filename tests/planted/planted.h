/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What the planted programs share. Each is one bug in the use of the library, and the same text
 * without it: "fixed" as the only argument. They are written as a user would: public headers, the
 * shared library, no test framework. Exit code 0 says that the program came to its end.
 */
#ifndef PLANTED_H
#define PLANTED_H

#include <sheaf/cache.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <urcu.h>

#include <sheaf/rcu.h>

struct item {
	long key;
	long value;
	char text[48];
};

static bool fixed;
static struct sheaf_gp_urcu source;
static struct sheaf_cache *cache;

static inline void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "planted: %s\n", what);
	exit(2);
}

static inline struct sheaf_cache *new_cache(const char *name)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = sizeof(struct item),
		.gp = &source.gp,
		.name = name,
	};
	struct sheaf_cache *made;

	must(sheaf_cache_create(&made, &attr) == 0, "no cache");
	return made;
}

static inline void planted_begin(int argc, char **argv)
{
	fixed = argc > 1 && strcmp(argv[1], "fixed") == 0;
	must(argc == 1 || fixed, "the only argument is \"fixed\"");
	must(sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) == 0, "no source");
	cache = new_cache("items");
}

/* Nothing but what the bug has left may be live. */
static inline int planted_end(void)
{
	size_t live;
	int err = sheaf_cache_destroy(cache, &live);

	if (err) {
		fprintf(stderr, "planted: %zu items live\n", live);
		return 3;
	}
	sheaf_gp_urcu_fini(&source);
	return 0;
}

static inline struct item *new_item(long key)
{
	struct item *item = sheaf_cache_alloc(cache, 0);

	must(item != NULL, "no item");
	*item = (struct item){.key = key, .value = -key};
	return item;
}

/* Threads take their turns by number. Relaxed: what one does must not come before what the next one
 * does by this, or race checkers would be content. */
static int turn;

static inline void reach(int number)
{
	if (__atomic_load_n(&turn, __ATOMIC_RELAXED) < number)
		__atomic_store_n(&turn, number, __ATOMIC_RELAXED);
}

static inline void await(int number)
{
	while (__atomic_load_n(&turn, __ATOMIC_RELAXED) < number)
		usleep(1000);
}

/* What is retired has become free. */
static inline void let_ripen(void)
{
	must(sheaf_cache_barrier(cache) == 0, "no barrier");
	sheaf_cache_shrink(cache);
}

#endif
