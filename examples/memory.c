/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* How much memory: a hard budget, waiting at its end, and giving back what nobody uses. */
#include <sheaf/cache.h>
#include <sheaf/pressure.h>

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define OBJECTS 64

static struct sheaf_cache *cache;

/* Frees what it was given, one by one, a while later. */
static void *consume(void *arg)
{
	void **objects = arg;
	int i;

	for (i = 0; i < OBJECTS; i++) {
		usleep(100);
		sheaf_cache_free(cache, objects[i]);
	}
	return NULL;
}

int main(void)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = 1024,
		.budget = OBJECTS * 1024,
		.trim_us = 100000, /* what is free and not needed goes back within 100 ms */
	};
	static void *objects[OBJECTS], *more[OBJECTS];
	pthread_t consumer;
	int i;

	if (sheaf_cache_create(&cache, &attr))
		return 1;

	/* Where the kernel tells of memory pressure, give back what is free. */
	if (sheaf_pressure_start(NULL))
		printf("this kernel does not tell of pressure, or not us\n");

	if (sheaf_cache_alloc_bulk(cache, 0, OBJECTS, objects) != OBJECTS)
		return 1;
	/* Nothing is free anywhere: refused ... */
	if (sheaf_cache_alloc(cache, 0))
		return 1;
	/* ... or, for who may sleep, as soon as something comes back. */
	if (pthread_create(&consumer, NULL, consume, objects))
		return 1;
	for (i = 0; i < OBJECTS; i++)
		if (!(more[i] = sheaf_cache_alloc(cache, SHEAF_WAIT)))
			return 1;
	pthread_join(consumer, NULL);
	sheaf_cache_free_bulk(cache, OBJECTS, more);

	/* All caches of the process: at once, rather than in 100 ms. */
	printf("%llu bytes of objects, ", (unsigned long long)sheaf_budget_used());
	printf("%zu given back\n", sheaf_trim(SIZE_MAX));
	sheaf_pressure_stop();
	return sheaf_cache_destroy(cache, NULL) ? 1 : 0;
}
