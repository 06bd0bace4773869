/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A profiler: a timer's signal interrupts the program wherever it is, also inside malloc() or this
 * library, and the handler allocates a node and records what the thread was doing. Another thread
 * counts the nodes and frees them. There is no fixed ring of records that may be too small
 * for a burst; if nothing is at hand, a sample is dropped and counted.
 *
 * The handler pushes on a stack that is only ever taken whole: nobody looks at a node that another
 * thread may have freed.
 */
#include <sheaf/cache.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define WORKERS 2
#define STOCK 1024u /* nodes at hand */
#define SAMPLES 100u
#define TICK_US 1000
#define PATIENCE_S 60

enum task { TASK_OTHER, TASK_SORT, TASK_HASH, TASK_COPY, TASKS };
static const char *const task_name[TASKS] = {"other", "sort", "hash", "copy"};

struct sample {
	struct sample *next;
	enum task task;
};

static struct sheaf_cache *cache;
static struct sample *newest;
static unsigned long taken, dropped; /* by handlers */
static unsigned long count[TASKS];   /* of the counting thread */
static __thread enum task doing;
static int stop;

/* On any thread, in the middle of anything. */
static void on_tick(int signal)
{
	struct sample *sample = sheaf_cache_alloc_nowait(cache);

	(void)signal;
	if (!sample) {
		__atomic_fetch_add(&dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
	sample->task = __atomic_load_n(&doing, __ATOMIC_RELAXED);
	sample->next = __atomic_load_n(&newest, __ATOMIC_RELAXED);
	/* release: the sample, to count_samples() */
	while (!__atomic_compare_exchange_n(&newest, &sample->next, sample, true, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		;
}

/* Takes all there is and counts it. */
static unsigned count_samples(void)
{
	struct sample *sample =
		__atomic_exchange_n(&newest, NULL, __ATOMIC_ACQUIRE); /* on_tick() */
	struct sample *next;
	unsigned n = 0;

	for (; sample; sample = next, n++) {
		next = sample->next;
		count[sample->task]++;
		sheaf_cache_free(cache, sample); /* the next tick may interrupt this, too */
	}
	return n;
}

/* Handlers never go to the backend. What is freed lies in slots and barn, within their reach. */
static int stock_up(void)
{
	static void *node[STOCK];
	const size_t got = sheaf_cache_alloc_bulk(cache, 0, STOCK, node);

	sheaf_cache_free_bulk(cache, got, node);
	return got == STOCK ? 0 : -1;
}

static int start_timer(long us)
{
	const struct itimerval time = {{0, us}, {0, us}};

	return setitimer(ITIMER_PROF, &time, NULL); /* each `us` of processor time */
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(unsigned));
}

static void begin(enum task task)
{
	__atomic_store_n(&doing, task, __ATOMIC_RELAXED);
}

/* Something to look at. */
static void *work(void *seed)
{
	unsigned random = *(unsigned *)seed;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		unsigned *number = malloc(STOCK * sizeof(*number)), copy[STOCK], i;

		if (!number)
			break;
		for (i = 0; i < STOCK; i++)
			number[i] = (unsigned)rand_r(&random);
		begin(TASK_SORT);
		qsort(number, STOCK, sizeof(*number), compare);
		begin(TASK_HASH);
		for (i = 0; i < 10 * STOCK; i++)
			random = (random ^ number[i % STOCK]) * 16777619u;
		begin(TASK_COPY);
		for (i = 0; i < 100; i++) {
			memcpy(copy, number, sizeof(copy));
			random += copy[i];
			number[i] = random;
		}
		begin(TASK_OTHER);
		free(number);
	}
	return NULL;
}

int main(void)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = sizeof(struct sample)};
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	unsigned seed[WORKERS], seen = 0, i;
	pthread_t worker[WORKERS];

	if (sheaf_cache_create(&cache, &attr) || stock_up() || sigaction(SIGPROF, &action, NULL))
		return 1;
	for (i = 0; i < WORKERS; i++) {
		seed[i] = i;
		if (pthread_create(&worker[i], NULL, work, &seed[i]))
			return 1;
	}
	if (start_timer(TICK_US))
		return 1;
	for (i = 0; seen < SAMPLES && i < PATIENCE_S * 100; i++) {
		usleep(10000);
		seen += count_samples();
	}
	start_timer(0);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < WORKERS; i++)
		pthread_join(worker[i], NULL);
	signal(SIGPROF, SIG_IGN); /* and what is still pending is gone */
	seen += count_samples();
	for (i = 0; i < TASKS; i++)
		printf("%s %lu, ", task_name[i], count[i]);
	printf("%u samples, %lu dropped\n", seen, dropped);
	/* Each is there once, and all nodes are back, or this says so. */
	return sheaf_cache_destroy(cache, NULL) || seen != taken || seen < SAMPLES ? 1 : 0;
}
