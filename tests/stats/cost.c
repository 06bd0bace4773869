/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What it costs a program to be looked at: pairs of allocation and free, in turns with somebody who
 * asks for updates and without. One line: nanoseconds of CPU time per pair, medians of the turns; the median
 * of what each turn with takes beside its neighbour without; and CPU time per update, from which follows what a rate costs of one processor.
 *
 * usage: cost [UPDATES_PER_SECOND [SECONDS]]
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sheaf/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cache_page.h"

#define TURN_NS 100000000
#define TURNS_MOST 1000

static struct page_head *head;
static unsigned rate;
static int asking;
static int stop;

static uint64_t clock_of(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* As sheaf-stat does. */
static void *ask(void *arg)
{
	const struct timespec nap = {0, 1000000000 / (long)rate};

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		nanosleep(&nap, NULL);
		if (!__atomic_load_n(&asking, __ATOMIC_RELAXED))
			continue;
		__atomic_fetch_add(&head->request, 1, __ATOMIC_RELEASE);
		syscall(__NR_futex, &head->request, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
	return arg;
}

static double turn(struct sheaf_cache *cache, int with)
{
	uint64_t begin = clock_of(CLOCK_MONOTONIC), pairs = 0;
	uint64_t cpu = clock_of(CLOCK_THREAD_CPUTIME_ID);
	unsigned i;

	__atomic_store_n(&asking, with, __ATOMIC_RELAXED);
	do {
		for (i = 0; i < 10000; i++)
			sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
		pairs += i;
	} while (clock_of(CLOCK_MONOTONIC) - begin < TURN_NS);
	__atomic_store_n(&asking, 0, __ATOMIC_RELAXED);
	return (double)(clock_of(CLOCK_THREAD_CPUTIME_ID) - cpu) / (double)pairs;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), compare);
	return values[n / 2];
}

int main(int argc, char **argv)
{
	static double alone[TURNS_MOST], watched[TURNS_MOST], ratio[TURNS_MOST];
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 64, .name = "cost", .stats = true};
	double seconds = argc > 2 ? atof(argv[2]) : 1, without, with, took;
	uint64_t cpu = 0, updates;
	struct sheaf_cache *cache;
	pthread_t asker;
	char name[64];
	unsigned n = 0;
	int fd;

	rate = argc > 1 ? (unsigned)atoi(argv[1]) : 10;
	if (!rate || rate > 100 || sheaf_cache_create(&cache, &attr))
		return 1;
	snprintf(name, sizeof(name), PAGE_FOLDER "/" PAGE_PREFIX "%d", (int)getpid());
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 1;
	/* It stays open: closing it would take the lock away. */
	head = mmap(NULL, sizeof(*head), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (head == MAP_FAILED || pthread_create(&asker, NULL, ask, NULL))
		return 1;
	(void)turn(cache, 0);
	for (n = 0; n < TURNS_MOST && n * 2.0 * TURN_NS < seconds * 1e9; n++) {
		/* Each comes first as often as the other. */
		if (n % 2)
			watched[n] = turn(cache, 1);
		alone[n] = turn(cache, 0);
		if (n % 2 == 0)
			watched[n] = turn(cache, 1);
		ratio[n] = watched[n] / alone[n];
		cpu += __atomic_load_n(&head->took_ns, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(asker, NULL);
	updates = head->updates;
	without = median(alone, n);
	with = median(watched, n);
	took = (double)cpu / n;
	printf("stats-cost rate=%u turns=%u updates=%llu alone_ns=%.3f watched_ns=%.3f ratio=%.4f "
	       "update_us=%.1f of_a_cpu=%.4f%%\n",
	       rate, n, (unsigned long long)updates, without, with, median(ratio, n), took / 1000,
	       took * rate / 1e7);
	/* It has to have been looked at. */
	return sheaf_cache_destroy(cache, NULL) || !updates;
}
