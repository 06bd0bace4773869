/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The writer marks an item as dead after it has retired it, while a reader who found it before looks at it. */
#include "planted.h"

static struct item *current;

static void *read_current(void *arg)
{
	long *sum = arg;
	struct item *item;

	rcu_register_thread();
	rcu_read_lock();
	item = rcu_dereference(current);
	*sum = item->key;
	reach(1);
	await(2);
	*sum += item->value; /* may be either */
	rcu_read_unlock();
	rcu_unregister_thread();
	return NULL;
}

int main(int argc, char **argv)
{
	struct item *old;
	pthread_t reader;
	long sum = 0;

	planted_begin(argc, argv);
	rcu_assign_pointer(current, new_item(1));
	must(pthread_create(&reader, NULL, read_current, &sum) == 0, "no thread");
	await(1);
	old = rcu_xchg_pointer(&current, NULL);
	sheaf_cache_free_rcu(cache, old);
	if (!fixed)
		old->value = 0;
	reach(2);
	pthread_join(reader, NULL);
	printf("%ld\n", sum);
	return planted_end();
}
