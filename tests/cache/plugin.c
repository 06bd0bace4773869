/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A module that links the library, for lifetime.c to open and close. */
#include <sheaf/cache.h>

int plugin_run(struct sheaf_cache **kept);
int plugin_end(struct sheaf_cache *kept);

/* Allocates and frees on a cache of its own; leaves the cache, with threads' slots in it. */
int plugin_run(struct sheaf_cache **kept)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 48, .name = "plugin"};
	void *objects[200];
	int i;

	if (!*kept && sheaf_cache_create(kept, &attr))
		return 1;
	for (i = 0; i < 200; i++)
		objects[i] = sheaf_cache_alloc(*kept, 0);
	for (i = 0; i < 200; i++) {
		if (!objects[i])
			return 2;
		sheaf_cache_free(*kept, objects[i]);
	}
	return 0;
}

int plugin_end(struct sheaf_cache *kept)
{
	return sheaf_cache_destroy(kept, NULL);
}
