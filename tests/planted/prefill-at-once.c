/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Two threads take items from one prefilled sheaf at the same time. Corrected, each has its own. */
#include "planted.h"

#define EACH 20000u
/* How often they are let go: the first one may be through before the second one runs. */
#define TIMES 50

static struct sheaf *shared;
static pthread_barrier_t begin;

static void *use(void *arg)
{
	struct sheaf *reserve = fixed ? sheaf_cache_prefill(cache, EACH, 0) : shared;
	struct item **items = arg;
	unsigned i;

	must(reserve != NULL, "no sheaf");
	pthread_barrier_wait(&begin);
	for (i = 0; i < EACH; i++) {
		items[i] = sheaf_cache_alloc_from(cache, reserve);
		must(items[i] != NULL, "no item");
	}
	if (fixed)
		sheaf_cache_return(cache, reserve);
	for (i = 0; i < EACH; i++)
		sheaf_cache_free(cache, items[i]);
	return NULL;
}

static void use_twice(void)
{
	static struct item *items[2][EACH];
	pthread_t threads[2];
	int i;

	pthread_barrier_init(&begin, NULL, 2);
	if (!fixed)
		shared = sheaf_cache_prefill(cache, 2 * EACH, 0);
	for (i = 0; i < 2; i++)
		must(pthread_create(&threads[i], NULL, use, items[i]) == 0, "no thread");
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&begin);
	sheaf_cache_return(cache, shared);
}

int main(int argc, char **argv)
{
	int times;

	planted_begin(argc, argv);
	for (times = fixed ? 1 : TIMES; times; times--)
		use_twice();
	return planted_end();
}
