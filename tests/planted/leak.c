/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* One way through the program forgets the last pointer to an item. */
#include "planted.h"

static __attribute__((noinline)) void handle(long key)
{
	struct item *item = new_item(key);

	if (!fixed && item->key == 3)
		return;
	sheaf_cache_free(cache, item);
}

int main(int argc, char **argv)
{
	long key;

	planted_begin(argc, argv);
	for (key = 0; key < 5; key++)
		handle(key);
	if (fixed)
		return planted_end();
	/* As programs do that end by exit(): the cache goes with them. */
	cache = NULL;
	return 0;
}
