/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A reader looks at the current item without a read section. The writer replaces and retires it; the
 * memory is free, and used again, while the reader is still at it.
 */
#include "planted.h"

#define MOST 2000

static struct item *current;

static void *read_current(void *arg)
{
	long *sum = arg;
	struct item *item;

	rcu_register_thread();
	if (fixed)
		rcu_read_lock();
	item = rcu_dereference(current);
	*sum = item->key;
	reach(1);
	if (!fixed)
		await(2);
	*sum += item->value; /* is free, without a section */
	reach(3);
	if (!fixed)
		await(4);
	*sum += item->text[0]; /* is another item, without a section */
	if (fixed)
		rcu_read_unlock();
	rcu_unregister_thread();
	return NULL;
}

/* New ones until the memory comes again. */
static int use_again(const struct item *old, struct item **items)
{
	int n = 0;

	do {
		items[n] = new_item(n);
	} while (items[n++] != old && n < MOST);
	must(items[n - 1] == old, "the memory did not come again");
	return n;
}

int main(int argc, char **argv)
{
	static struct item *items[MOST];
	struct item *old, *next;
	pthread_t reader;
	long sum = 0;
	int n;

	planted_begin(argc, argv);
	rcu_assign_pointer(current, new_item(1));
	must(pthread_create(&reader, NULL, read_current, &sum) == 0, "no thread");
	await(1);
	next = new_item(2);
	old = rcu_xchg_pointer(&current, next);
	sheaf_cache_free_rcu(cache, old);
	let_ripen();
	reach(2);
	await(3);
	n = use_again(old, items);
	reach(4);
	pthread_join(reader, NULL);
	printf("%ld\n", sum);
	while (n)
		sheaf_cache_free(cache, items[--n]);
	sheaf_cache_free(cache, next);
	return planted_end();
}
