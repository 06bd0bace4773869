/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Disturbances: one thread that meddles, by its own stream of random numbers; each round begins with
 * one of each. It never waits for a worker, because a worker may be waiting for a budget that only
 * this thread raises again.
 *
 * A disturbance is counted where it happens, by who knows that it did: a fork when its child has ended
 * well, a signal by its handler, an end by the thread, a cancelled one by who joins it. What
 * was asked of a worker that is about to end does not happen, and is not counted.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

void happened(enum disturbance d)
{
	fetch_add_relaxed(&torture.counts.disturbances[d], 1);
}

/* One that can be disturbed; NULL if there is none. */
static struct worker *any_running(struct worker *d)
{
	unsigned n = (unsigned)torture.options.threads, first = random_below(&d->random, n), i;

	for (i = 0; i < n; i++) {
		struct worker *w = &torture.workers[(first + i) % n];

		if (w->running && !load_relaxed(&w->left))
			return w;
	}
	return NULL;
}

static void ask(struct worker *d, uint32_t what)
{
	struct worker *w = any_running(d);

	if (w)
		fetch_or_release(&w->asked, what);
}

static void ask_fork(struct worker *d)
{
	ask(d, ASK_FORK);
}

/* A thread that has not been joined can be sent signals, also after its end. */
static void signals(struct worker *d)
{
	unsigned n;

	for (n = 1 + random_below(&d->random, 8); n; n--) {
		struct worker *w = any_running(d);

		if (w)
			pthread_kill(w->thread, SIGUSR1);
	}
}

static void affinity(struct worker *d)
{
	struct worker *w = any_running(d);
	static cpu_set_t may;
	static bool known;
	cpu_set_t set;
	int cpu;

	if (!known)
		known = sched_getaffinity(0, sizeof(may), &may) == 0;
	if (!w || !known)
		return;
	set = may;
	/* One CPU, or all again. */
	if (random_below(&d->random, 3)) {
		do
			cpu = (int)random_below(&d->random, CPU_SETSIZE);
		while (!CPU_ISSET(cpu, &may));
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
	}
	if (!pthread_setaffinity_np(w->thread, sizeof(set), &set))
		happened(DISTURB_AFFINITY);
}

static struct sheaf_cache *any_cache(struct worker *d)
{
	unsigned c = random_below(&d->random, CACHES + 1);

	store_relaxed(&d->with, c < CACHES ? torture.victims[c].spec->name : "nodes");
	return c < CACHES ? torture.victims[c].cache : torture.nodes;
}

static void shrink(struct worker *d)
{
	struct sheaf_cache *cache = any_cache(d);

	switch (random_below(&d->random, 4)) {
	case 0:
		sheaf_cache_trim(cache);
		break;
	case 1:
		sheaf_trim(random_below(&d->random, 1 << 20));
		break;
	default:
		sheaf_cache_shrink(cache);
	}
	happened(DISTURB_SHRINK);
}

static void capacity(struct worker *d)
{
	static const uint32_t some[] = {1, 2, 3, 4, 7, 15, 60, 252};

	if (sheaf_cache_set_capacity(
		    any_cache(d), some[random_below(&d->random, sizeof(some) / sizeof(some[0]))]))
		fault("cache %s: a good capacity is refused", d->with);
	happened(DISTURB_CAPACITY);
}

static void limits(struct worker *d)
{
	struct sheaf_cache *cache = any_cache(d);
	uint64_t soft = 1 + random_below(&d->random, 300);

	if (random_below(&d->random, 2))
		sheaf_cache_set_barn_limits(cache, random_below(&d->random, 10),
					    random_below(&d->random, 10));
	else if (sheaf_cache_set_rcu_limits(cache, soft, soft + random_below(&d->random, 3000)))
		fault("cache %s: good limits are refused", d->with);
	happened(DISTURB_LIMITS);
}

static void budget(struct worker *d)
{
	unsigned c = random_below(&d->random, CACHES), how = random_below(&d->random, 8);

	store_relaxed(&d->with, torture.victims[c].spec->name);
	/* Soon there is enough again for who waits. */
	if (how == 0)
		sheaf_set_budget(1 + random_below(&d->random, 1 << 18));
	else if (how < 3)
		sheaf_set_budget(0);
	else if (how == 3)
		sheaf_cache_set_budget(torture.victims[c].cache,
				       1 + random_below(&d->random, 1 << 16));
	else
		sheaf_cache_set_budget(torture.victims[c].cache, 0);
	happened(DISTURB_BUDGET);
}

/* Threads find themselves on other nodes, in the midst of a call too. */
static void nodes(struct worker *d)
{
	struct worker *w = any_running(d);

	if (!w)
		return;
	store_relaxed(&w->place, random_below(&d->random, 4 * NODES));
	happened(DISTURB_NODES);
}

static void thread_exit(struct worker *d)
{
	ask(d, ASK_EXIT);
}

static void cancel(struct worker *d)
{
	struct worker *w = any_running(d);

	if (w)
		pthread_cancel(w->thread);
}

/* In the order of enum disturbance. */
static const struct {
	const char *name;
	void (*run)(struct worker *d);
	unsigned weight;
} list[DISTURBANCES] = {
	[DISTURB_FORK] = {"fork", ask_fork, 2},
	[DISTURB_SIGNALS] = {"signals", signals, 40},
	[DISTURB_AFFINITY] = {"affinity", affinity, 10},
	[DISTURB_SHRINK] = {"shrink", shrink, 6},
	[DISTURB_CAPACITY] = {"capacity", capacity, 4},
	[DISTURB_LIMITS] = {"limits", limits, 4},
	[DISTURB_BUDGET] = {"budget", budget, 6},
	[DISTURB_NODES] = {"nodes", nodes, 10},
	[DISTURB_EXIT] = {"exit", thread_exit, 3},
	[DISTURB_CANCEL] = {"cancel", cancel, 3},
};

int disturbance_named(const char *name, size_t length)
{
	int d;

	for (d = 0; d < DISTURBANCES; d++)
		if (strlen(list[d].name) == length && !memcmp(list[d].name, name, length))
			return d;
	return -1;
}

const char *disturbance_name(unsigned d)
{
	return list[d].name;
}

/* ThreadSanitizer and the malloc of AddressSanitizer do not get over a fork of many threads. */
uint32_t disturbances_possible(void)
{
	uint32_t all = (UINT32_C(1) << DISTURBANCES) - 1;

#ifdef SANITIZED
	all &= ~(UINT32_C(1) << DISTURB_FORK);
#endif
	return all;
}

bool all_happened(const uint64_t *before)
{
	unsigned d;

	for (d = 0; d < DISTURBANCES; d++)
		if (disturbed(d) && load_relaxed(&torture.counts.disturbances[d]) == before[d])
			return false;
	return true;
}

void disturber_join(bool all)
{
	unsigned i;

	for (i = 0; i < torture.options.threads; i++) {
		struct worker *w = &torture.workers[i];
		void *how = NULL;

		/* acquire: partner leave() */
		if (!w->running || (!all && !load_acquire(&w->left)))
			continue;
		pthread_join(w->thread, &how);
		w->running = false;
		if (how == PTHREAD_CANCELED)
			happened(DISTURB_CANCEL);
		if (!all && !load_relaxed(&torture.stop) && !worker_start(w))
			fault("thread %u cannot be made again", i);
	}
}

/* The same numbers whatever is switched off: what is not wanted is drawn, and not done. */
static enum disturbance choose(struct worker *d)
{
	unsigned sum = 0, at, i;

	for (i = 0; i < DISTURBANCES; i++)
		sum += list[i].weight;
	at = random_below(&d->random, sum);
	for (i = 0; at >= list[i].weight; i++)
		at -= list[i].weight;
	return (enum disturbance)i;
}

static void disturb(struct worker *d, enum disturbance how)
{
	if (!disturbed(how))
		return;
	worker_note(d, list[how].name, "");
	list[how].run(d);
}

void *disturber_run(void *arg)
{
	struct worker *d = arg;
	unsigned n = 0;

	while (!load_relaxed(&torture.disturber_stop)) {
		const struct timespec rest = {0, (long)random_below(&d->random, 800) * 1000};

		disturb(d, n < DISTURBANCES ? (enum disturbance)n++ : choose(d));
		worker_note(d, "join", "threads");
		disturber_join(false);
		fetch_add_relaxed(&d->steps, 1);
		nanosleep(&rest, NULL);
	}
	store_release(&d->left, 1);
	return NULL;
}

void disturber_undo(void)
{
	unsigned c;

	sheaf_set_budget(0);
	for (c = 0; c < CACHES; c++)
		sheaf_cache_set_budget(torture.victims[c].cache, 0);
}
