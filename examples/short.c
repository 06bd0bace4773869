/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include <sheaf/cache.h>
#include <urcu.h>

int main(void)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 64};
	struct sheaf_cache *cache;
	long *value, i;

	if (sheaf_gp_urcu_get(&attr.gp, &rcu_flavor) || sheaf_cache_create(&cache, &attr))
		return 1;
	for (i = 0; i < 100000; i++) {
		value = sheaf_cache_alloc(cache, 0);
		if (!value)
			return 1;
		*value = i;
		sheaf_cache_free_rcu(cache, value); /* free when no reader can hold it any more */
	}
	if (sheaf_cache_destroy(cache, NULL)) /* waits for those; tells if others are left */
		return 1;
	sheaf_gp_urcu_put(attr.gp);
	return 0;
}
