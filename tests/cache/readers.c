/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a cache over liburcu never hands out an object that a reader could still
 * hold: writers replace published objects, retire the old ones and use new ones at
 * once, while readers look twice at what they found, within one read section; another
 * thread takes slots over and waits at barriers. Over a source whose tickets elapse at once
 * the same test must fail, which proves that it can. AddressSanitizer sees a reader at an
 * object that is free, ThreadSanitizer a reader that is not ordered before the reuse.
 */
#include <urcu/urcu-memb.h>

#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <sched.h>

#define PLACES 4
#define READERS 2
#define WRITERS 2
#define PARTIES (READERS + WRITERS)

struct node {
	uint64_t generation;
	/* Not atomic, for ThreadSanitizer; only if the source is right. */
	uint64_t plain;
};

struct party {
	bool writer;
	bool plain;
	bool remote;
	uint64_t state;
	uint64_t end_ms;
	struct sheaf_gp *gp;
	unsigned done;
	unsigned errors;
};

static struct arena arena;
static struct sheaf_cache *cache;
static struct node *places[PLACES];
static uint64_t generations;
static bool stop;

static struct node *node_make(struct party *p)
{
	struct node *node = sheaf_cache_alloc(cache, 0);
	uint64_t generation = fetch_add_relaxed(&generations, 1);

	if (!node)
		return NULL;
	p->errors += !arena_own(&arena, node, ARENA_USER);
	store_relaxed(&node->generation, generation);
	if (p->plain)
		node->plain = generation;
	return node;
}

/* For some instructions, a turn of the scheduler, or up to two milliseconds. */
static void hold_on(uint64_t *state)
{
	for (uint64_t i = test_below(state, 300); i; i--)
		compiler_barrier();
	if (!test_below(state, 16))
		sched_yield();
	if (!test_below(state, 500))
		test_sleep_ms((unsigned)test_below(state, 3));
}

static void read_once(struct party *p)
{
	struct node *node;
	uint64_t generation;

	sheaf_gp_read_lock(p->gp);
	node = load_acquire(&places[test_below(&p->state, PLACES)]);
	generation = load_relaxed(&node->generation);
	hold_on(&p->state);
	p->errors += load_relaxed(&node->generation) != generation;
	if (p->plain)
		p->errors += node->plain != generation;
	sheaf_gp_read_unlock(p->gp);
	p->done++;
}

static void write_once(struct party *p)
{
	struct node *node = node_make(p);

	if (!node)
		return;
	node = __atomic_exchange_n(&places[test_below(&p->state, PLACES)], node, __ATOMIC_ACQ_REL);
	p->errors += !arena_disown(&arena, node, ARENA_USER);
	sheaf_cache_free_rcu(cache, node);
	p->done++;
}

static void *party_main(void *arg)
{
	struct party *p = arg;

	rcu_register_thread();
	do {
		for (unsigned i = 0; i < 20; i++)
			p->writer ? write_once(p) : read_once(p);
		if (p->writer && p->remote && !test_below(&p->state, 50)) {
			sheaf_cache_shrink(cache);
			p->errors += sheaf_cache_barrier(cache) != 0;
		}
		if (p->errors)
			store_relaxed(&stop, true);
	} while (test_ms() < p->end_ms && !load_relaxed(&stop));
	rcu_unregister_thread();
	return NULL;
}

static unsigned read_and_write(struct sheaf_gp *gp, bool plain, bool remote, unsigned ms)
{
	struct party parties[PARTIES];
	unsigned errors = 0, done = 0;

	arena_init(&arena, sizeof(struct node));
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = 2 + remote,
					    .barn_full = 3,
					    .nodes = 1 + remote,
					    .gp = gp,
				    });
	stop = false;
	for (unsigned i = 0; i < PARTIES; i++)
		parties[i] = (struct party){
			.writer = i >= READERS,
			.plain = plain,
			.remote = remote,
			.gp = gp,
			.state = test_seed() + i,
			.end_ms = test_ms() + ms,
		};
	for (unsigned i = 0; i < PLACES; i++)
		places[i] = node_make(&parties[0]);
	test_threads(PARTIES, party_main, parties, sizeof(parties[0]));
	for (unsigned i = 0; i < PARTIES; i++) {
		errors += parties[i].errors;
		done += parties[i].done;
	}
	ck_assert_uint_gt(done, 0);
	for (unsigned i = 0; i < PLACES; i++) {
		arena_disown(&arena, places[i], ARENA_USER);
		sheaf_cache_free(cache, places[i]);
	}
	return errors;
}

/* Of each of two rounds, with both kinds of slots: ten seconds, or twenty minutes. */
static unsigned torture_ms(void)
{
	return test_more(test_slow() ? 700 : 2500);
}

START_TEST(no_reader_sees_reuse)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = 1};
	struct sheaf_gp_urcu urcu;
	struct sheaf_cache_stats s;
	unsigned runs = 0;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr), 0);
	/* Where processors are scarce little may have come back in one run. */
	do {
		ck_assert_uint_eq(read_and_write(&urcu.gp, true, _i, torture_ms()), 0);
		s = cache_stats(cache);
		arena_cache_end(&arena, cache);
	} while (s.recycled <= 100 && ++runs < 10);
	ck_assert_uint_gt(s.recycled, 100);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

static uint64_t hasty_ticket(struct sheaf_gp *gp)
{
	return load_relaxed(&gp->completed);
}

static int hasty_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	(void)gp;
	(void)ticket;
	return 0;
}

static bool hasty_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static const struct sheaf_gp_ops hasty_ops = {
	.name = "hasty",
	.ticket = hasty_ticket,
	.wait = hasty_wait,
	.read_ongoing = hasty_read_ongoing,
};

START_TEST(the_same_catches_a_hasty_source)
{
	struct sheaf_gp hasty = {
		.ops = &hasty_ops,
		.read_lock = rcu_flavor.read_lock,
		.read_unlock = rcu_flavor.read_unlock,
	};

	unsigned errors, runs = 0;

	/* On a machine that is busy elsewhere, readers may not meet the fault in one run. */
	do {
		errors = read_and_write(&hasty, false, false, 1000);
		arena_cache_end(&arena, cache);
	} while (!errors && ++runs < 30);
	ck_assert_uint_gt(errors, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("readers");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, no_reader_sees_reuse, 0, 2);
	/* What this one provokes ends the program under AddressSanitizer. */
	if (!test_asan())
		tcase_add_test(tc, the_same_catches_a_hasty_source);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
