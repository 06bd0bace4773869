/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A constructor writes behind the item. It runs again for memory that was with the backend meanwhile. */
#include "planted.h"

static size_t length;

static void construct(void *arg, size_t n, void *const *objects)
{
	size_t i;

	(void)arg;
	for (i = 0; i < n; i++)
		memset(objects[i], 'x', length);
}

int main(int argc, char **argv)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = sizeof(struct item),
		.name = "made",
		.ctor = construct,
	};
	struct item *items[16];
	struct sheaf_cache *made;
	size_t round, i;

	length = sizeof(struct item) + (argc > 1 ? 0 : 8);
	planted_begin(argc, argv);
	must(sheaf_cache_create(&made, &attr) == 0, "no cache");
	for (round = 0; round < 3; round++) {
		must(sheaf_cache_alloc_bulk(made, 0, 16, (void **)items) == 16, "no items");
		for (i = 0; i < 16; i++)
			must(items[i]->text[0] == 'x', "not constructed");
		sheaf_cache_free_bulk(made, 16, (void *const *)items);
		sheaf_cache_shrink(made);
	}
	must(sheaf_cache_destroy(made, NULL) == 0, "items live");
	return planted_end();
}
