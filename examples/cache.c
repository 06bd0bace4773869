/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A cache: a value that readers follow without a lock, replaced and retired. */
#include <sheaf/cache.h>

#include <stdio.h>
#include <urcu.h>

struct value {
	long number;
};

int main(void)
{
	struct sheaf_gp_urcu rcu;
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = sizeof(struct value), .gp = &rcu.gp};
	struct sheaf_cache *cache;
	struct value *current = NULL, *old;
	struct sheaf *reserve;
	long i;

	if (sheaf_gp_urcu_init(&rcu, &rcu_flavor, NULL) || sheaf_cache_create(&cache, &attr))
		return 1;

	for (i = 0; i < 100000; i++) {
		struct value *next = sheaf_cache_alloc(cache, 0);

		if (!next)
			return 1;
		next->number = i;
		old = rcu_xchg_pointer(&current, next); /* readers see one or the other */
		sheaf_cache_free_rcu(cache, old);	/* free when no reader can hold it */
	}

	/* Up to 32 allocations that cannot fail, for a section that must not block. */
	reserve = sheaf_cache_prefill(cache, 32, 0);
	if (!reserve)
		return 1;
	old = sheaf_cache_alloc_from(cache, reserve);
	sheaf_cache_return(cache, reserve);

	printf("last value %ld\n", current->number);
	sheaf_cache_free(cache, old);
	sheaf_cache_free(cache, current);
	if (sheaf_cache_destroy(cache, NULL)) /* waits for what was retired */
		return 1;
	sheaf_gp_urcu_fini(&rcu);
	return 0;
}
