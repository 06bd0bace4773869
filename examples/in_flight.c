/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Objects in flight over time, retired and not yet back: by tickets, and by call_rcu() with malloc.
 * One thread retires an object each microsecond; a line for each millisecond.
 */
#include <sheaf/cache.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <urcu.h>

#define MILLISECONDS 60
#define PER_MILLISECOND 1000

struct object {
	struct rcu_head head;
	char payload[240];
};

static unsigned long freed;

static void free_object(struct rcu_head *head)
{
	free(caa_container_of(head, struct object, head));
	__atomic_add_fetch(&freed, 1, __ATOMIC_RELAXED);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* At its pace, but not more than a burst behind it: where the machine was busy, time is lost. */
static void wait_for(uint64_t *next)
{
	uint64_t now = now_ns();

	*next += 1000;
	if (*next + 1000000 < now)
		*next = now;
	while (now_ns() < *next)
		;
}

static int by_tickets(uint64_t *flight)
{
	struct sheaf_gp_urcu source;
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = sizeof(struct object), .gp = &source.gp};
	struct sheaf_cache_stats stats;
	struct sheaf_cache *cache;
	uint64_t next = now_ns();
	int ms, i;

	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&cache, &attr))
		return 1;
	for (ms = 0; ms < MILLISECONDS; ms++) {
		for (i = 0; i < PER_MILLISECOND; i++) {
			struct object *object = sheaf_cache_alloc(cache, 0);

			if (!object)
				return 1;
			object->payload[0] = 1;
			sheaf_cache_free_rcu(cache, object);
			wait_for(&next);
		}
		sheaf_cache_stats(cache, &stats, sizeof(stats));
		flight[ms] = stats.in_flight;
	}
	if (sheaf_cache_destroy(cache, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	return 0;
}

static int by_call_rcu(uint64_t *flight)
{
	unsigned long retired = 0;
	uint64_t next = now_ns();
	int ms, i;

	rcu_register_thread();
	for (ms = 0; ms < MILLISECONDS; ms++) {
		for (i = 0; i < PER_MILLISECOND; i++) {
			struct object *object = malloc(sizeof(*object));

			if (!object)
				return 1;
			object->payload[0] = 1;
			call_rcu(&object->head, free_object);
			retired++;
			wait_for(&next);
		}
		flight[ms] = retired - __atomic_load_n(&freed, __ATOMIC_RELAXED);
	}
	rcu_barrier();
	rcu_unregister_thread();
	return freed != retired;
}

int main(void)
{
	uint64_t tickets[MILLISECONDS], callbacks[MILLISECONDS];
	int ms;

	if (by_tickets(tickets) || by_call_rcu(callbacks))
		return 1;
	printf("ms,tickets,call_rcu\n");
	for (ms = 0; ms < MILLISECONDS; ms++)
		printf("%d,%llu,%llu\n", ms + 1, (unsigned long long)tickets[ms],
		       (unsigned long long)callbacks[ms]);
	return 0;
}
