/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a capacity is worth to your pattern of use: visits to the next layer per operation, which
 * depend on no machine, and what is held for it. Put your own pattern into use().
 */
#include <sheaf/cache.h>

#include <stdio.h>
#include <stdlib.h>

#define LIVE 400
#define OPERATIONS 200000u

/* Objects that are live go up and down at random, by 16 at a time on average. */
static int use(struct sheaf_cache *cache)
{
	void *live[LIVE];
	unsigned n = 0, done = 0;
	unsigned long random = 1;

	while (done < OPERATIONS) {
		unsigned step;

		random = random * 6364136223846793005ul + 1442695040888963407ul;
		for (step = random >> 59; step; step--, done++) {
			if (random >> 58 & 1 && n < LIVE) {
				live[n] = sheaf_cache_alloc(cache, 0);
				if (!live[n++])
					return 1;
			} else if (n) {
				sheaf_cache_free(cache, live[--n]);
			}
		}
	}
	sheaf_cache_free_bulk(cache, n, live);
	return 0;
}

int main(void)
{
	double last = 1;
	uint32_t capacity;

	printf("capacity,barn_trips,backend_trips,held\n");
	for (capacity = 4; capacity <= 512; capacity *= 2) {
		struct sheaf_cache_attr attr = {.size = sizeof(attr),
						.object_size = 256,
						.capacity = capacity,
						.slots = SHEAF_SLOTS_THREAD};
		struct sheaf_cache_stats before, after;
		struct sheaf_cache *cache;
		double barn;

		/* Once to warm up, once to count. */
		if (sheaf_cache_create(&cache, &attr) || use(cache))
			return 1;
		sheaf_cache_stats(cache, &before, sizeof(before));
		if (use(cache))
			return 1;
		sheaf_cache_stats(cache, &after, sizeof(after));
		barn = (double)(after.barn_alloc_trips + after.barn_free_trips -
				before.barn_alloc_trips - before.barn_free_trips) /
		       OPERATIONS;
		printf("%u,%.5f,%.5f,%llu\n", capacity, barn,
		       (double)(after.backend_alloc_trips + after.backend_free_trips -
				before.backend_alloc_trips - before.backend_free_trips) /
			       OPERATIONS,
		       (unsigned long long)(after.held_slots + after.held_barns));
		if (sheaf_cache_destroy(cache, NULL) || barn > last)
			return 1;
		last = barn; /* more room is never more trips */
	}
	return 0;
}
