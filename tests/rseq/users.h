/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Users of a cache, who do everything it offers and look whether it is right: each object that
 * comes is theirs alone (tests/cache/arena.h has the stamps). A user is a thread, or the
 * signal handlers on it.
 */
#ifndef TESTS_RSEQ_USERS_H
#define TESTS_RSEQ_USERS_H

#include "arena.h"

#include <sheaf/cache.h>

#define USERS 16
#define USER_HAND 8

struct user {
	uint32_t stamp;
	uint64_t state;
	/* Objects in two hands, prefilled sheaves with too few. */
	unsigned errors;
	unsigned n;
	void *object[2 * USER_HAND];
} __attribute__((aligned(128)));

struct users {
	struct sheaf_cache *cache;
	bool retires;
	struct arena arena;
	struct user user[USERS];
	struct user remote;
};

/* A cache with the users' own backend, and a grace-period source if they retire. False if it cannot
 * be made. */
bool users_begin(struct users *users, struct sheaf_cache_attr attr, bool retires, uint64_t seed);

/* A small one, whose sheaves and barn are often full and often empty. */
bool users_begin_small(struct users *users, unsigned slots);

/* n threads of fn(&args[i]); meanwhile the caller touches all slots. Returns when they have ended; false
 * if they cannot be made. */
bool users_run(struct users *users, unsigned n, void (*fn)(void *arg), void *args, size_t arg_bytes);

/* Something that a user may do, and that its handlers may do. */
void user_work(struct users *users, unsigned me);
void user_interrupt(struct users *users, unsigned me);

/* Something that touches all slots. */
void users_remote(struct users *users);

/* Gives all back; *stats is from before the end of the cache. Returns what was wrong all in all. */
unsigned users_end(struct users *users, struct sheaf_cache_stats *stats);

#endif
