/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A scheduler for tests: it runs a few threads one at a time, and decides at every atomic
 * access of the library, lock and sleep which one goes on. All decisions are tried
 * in turn (up to a number of preemptions), or drawn by chance, and any run can be repeated. A signal
 * handler may come in at each of these points as well: on the thread, which counts as a preemption.
 *
 * The library is compiled once more for it, with this header included before all else:
 * the atomics shim calls schedule_point(), and what may block is replaced by what
 * tells the scheduler. Time stands still but when nobody else can run. Every interleaving is
 * a sequentially consistent one: weak orders are ThreadSanitizer's business.
 */
#ifndef TESTS_BARN_SCHEDULE_H
#define TESTS_BARN_SCHEDULE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SCHEDULE_THREADS 4

/* One case: what to do with it. */
struct schedule {
	unsigned threads;
	/* Before each run, in the main thread: make the state. */
	void (*begin)(void);
	/* What thread number `me` does. */
	void (*run)(unsigned me);
	/* NULL, or what a signal handler does on thread 0, once in each run, at any point of it. */
	void (*handler)(void);
	/* After each run, in the main thread: NULL, or what is wrong. */
	const char *(*end)(void);
	/* Preemptions per run at most; a switch from a thread that cannot go on is free. */
	unsigned preemptions;
	/* Runs at most. */
	unsigned runs;
	/* Not 0: decisions are drawn with this seed instead of tried in turn. */
	uint64_t seed;
};

struct schedule_result {
	unsigned runs;
	/* All decisions were tried. */
	bool complete;
	/* NULL, or what went wrong in the last run: what end() said, or "stuck". */
	const char *error;
};

/* Runs a case until something is wrong or all is tried. After "stuck" its threads are lost. */
struct schedule_result schedule_run(const struct schedule *schedule);

/*
 * Tries in turn, with no preemption, then with one at most, and so on up to those of the case: for decisions
 * are tried from the last one back, and if the runs end before all is tried, it is early preemptions that
 * were not. With up to `whole` preemptions (-1: none of them) all is tried, except on
 * slow builds; what is left of the runs then is shared among the others. Asserts that nothing is wrong. What
 * came of the most preemptions, and of all runs.
 */
struct schedule_result schedule_deepen(const struct schedule *schedule, int whole, const char *name);

/* In a scheduled thread: something that others can see happens here. Elsewhere: nothing. */
void schedule_point(void);

/* In a scheduled thread: from here on its points decide nothing, until it is no longer alone. For what it
 * does only once, which is not there in the next run. Others run where it has to wait for them. */
void schedule_alone(bool alone);

/* In a loop that waits: others first. */
int schedule_yield(void);

/* No thread can be made from now on (by the library). */
void schedule_refuse_threads(bool refuse);

int schedule_lock(pthread_mutex_t *lock);
int schedule_trylock(pthread_mutex_t *lock);
int schedule_unlock(pthread_mutex_t *lock);
int schedule_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int schedule_join(pthread_t thread, void **result);

#ifdef SCHEDULE_LIBRARY
#include <ck_pr.h>
#include <sched.h>

#define SHEAF_ATOMIC_HOOK() schedule_point()
#define pthread_mutex_lock schedule_lock
#define pthread_mutex_trylock schedule_trylock
#define pthread_mutex_unlock schedule_unlock
#define pthread_create schedule_create
#define pthread_join schedule_join
#define pthread_setname_np(thread, name) schedule_point()
#define sched_yield schedule_yield
#define ck_pr_stall (void)schedule_yield
#endif

#endif
