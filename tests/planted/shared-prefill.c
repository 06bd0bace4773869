/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Two threads take items from one prefilled sheaf, by turns today. Corrected, each has its own. */
#include "planted.h"

#define EACH 8

static struct sheaf *shared;

static void *use(void *arg)
{
	struct sheaf *reserve = fixed ? sheaf_cache_prefill(cache, EACH, 0) : shared;
	struct item *items[EACH];
	int i;

	if (!fixed)
		await(arg == &shared);
	must(reserve != NULL, "no sheaf");
	for (i = 0; i < EACH; i++) {
		items[i] = sheaf_cache_alloc_from(cache, reserve);
		must(items[i] != NULL, "no item");
	}
	reach(1);
	if (fixed)
		sheaf_cache_return(cache, reserve);
	for (i = 0; i < EACH; i++)
		sheaf_cache_free(cache, items[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	int i;

	planted_begin(argc, argv);
	if (!fixed)
		shared = sheaf_cache_prefill(cache, 2 * EACH, 0);
	for (i = 0; i < 2; i++)
		must(pthread_create(&threads[i], NULL, use, i ? &shared : NULL) == 0, "no thread");
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	sheaf_cache_return(cache, shared);
	return planted_end();
}
