/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Concurrency Kit's hash table, read while it grows: readers look prices up in read sections of
 * liburcu, one writer puts, changes and removes them. The table takes its memory from
 * <sheaf/ck_malloc.h>, which retires the old map when a new one is in place; and the
 * values come from a cache and are retired to it.
 */
#include <sheaf/cache.h>
#include <sheaf/ck_malloc.h>

#include <ck_ht.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#include <sheaf/rcu.h> /* for race checkers */

#define READERS 2
#define ROUNDS 3

struct price {
	uintptr_t item;
	uintptr_t check; /* ~item, as long as the memory is ours */
	unsigned long cents;
};

struct reader {
	pthread_t thread;
	unsigned random;
	unsigned long found;
	unsigned long errors;
};

static struct sheaf_ck_memory memory;
SHEAF_CK_MALLOC(allocator, &memory);

static ck_ht_t table;
static struct sheaf_cache *cache;
static pthread_barrier_t begin;
static unsigned items = 20000;
static int stop;

/* In a read section, or as the writer. */
static struct price *find(uintptr_t item)
{
	struct price *price;
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	ck_ht_hash_direct(&hash, &table, item);
	ck_ht_entry_key_set_direct(&entry, item);
	if (!ck_ht_get_spmc(&table, hash, &entry))
		return NULL;
	price = (struct price *)ck_ht_entry_value_direct(&entry);
	sheaf_edge_acquire(price); /* which they do not see in the table */
	return price;
}

static void *read_prices(void *arg)
{
	struct reader *me = arg;
	const struct price *price;
	uintptr_t item;

	rcu_register_thread();
	pthread_barrier_wait(&begin);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		me->random = me->random * 1103515245u + 12345u;
		item = 1 + (me->random >> 8) % items;
		rcu_read_lock(); /* for the map of the table as well as for the price */
		price = find(item);
		if (price) {
			me->found++;
			me->errors += price->item != item || price->check != ~item;
		}
		rcu_read_unlock();
	}
	rcu_unregister_thread();
	return NULL;
}

/* Puts a price, in place of the old one if there is one. */
static bool set_price(uintptr_t item, unsigned long cents)
{
	struct price *price = sheaf_cache_alloc(cache, 0);
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	if (!price)
		return false;
	*price = (struct price){item, ~item, cents};
	sheaf_edge_release(price);
	ck_ht_hash_direct(&hash, &table, item);
	ck_ht_entry_set_direct(&entry, hash, item, (uintptr_t)price);
	if (!ck_ht_set_spmc(&table, hash, &entry)) {
		sheaf_cache_free(cache, price); /* no memory to grow; nobody has seen it */
		return false;
	}
	if (!ck_ht_entry_empty(&entry))
		sheaf_cache_free_rcu(cache, (void *)ck_ht_entry_value_direct(&entry));
	return true;
}

static bool remove_price(uintptr_t item)
{
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	ck_ht_hash_direct(&hash, &table, item);
	ck_ht_entry_key_set_direct(&entry, item);
	if (!ck_ht_remove_spmc(&table, hash, &entry))
		return false;
	sheaf_cache_free_rcu(cache, (void *)ck_ht_entry_value_direct(&entry));
	return true;
}

/* All in, each third changed, all out: the table grows as it fills, and is made small again. */
static unsigned long write_prices(void)
{
	unsigned long errors = 0;
	uintptr_t item;

	for (item = 1; item <= items; item++)
		errors += !set_price(item, 100);
	for (item = 1; item <= items; item += 3)
		errors += !set_price(item, 200);
	for (item = 1; item <= items; item++) {
		const struct price *price = find(item);

		errors += !price || price->cents != (item % 3 == 1 ? 200 : 100);
		errors += !remove_price(item);
	}
	return errors + !ck_ht_reset_size_spmc(&table, 8);
}

int main(int argc, char **argv)
{
	struct sheaf_gp_urcu source;
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = sizeof(struct price), .gp = &source.gp};
	struct reader readers[READERS] = {0};
	unsigned long found = 0, errors = 0;
	size_t live;
	int i;

	if (argc > 1)
		items = (unsigned)atoi(argv[1]);
	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) ||
	    sheaf_ck_memory_init(&memory, &source.gp) || sheaf_cache_create(&cache, &attr) ||
	    !ck_ht_init(&table, CK_HT_MODE_DIRECT, NULL, &allocator, 8, 1))
		return 1;
	pthread_barrier_init(&begin, NULL, READERS + 1);
	for (i = 0; i < READERS; i++) {
		readers[i].random = (unsigned)i;
		if (pthread_create(&readers[i].thread, NULL, read_prices, &readers[i]))
			return 1;
	}
	pthread_barrier_wait(&begin);
	for (i = 0; i < ROUNDS; i++)
		errors += write_prices();
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		found += readers[i].found;
		errors += readers[i].errors;
	}
	pthread_barrier_destroy(&begin);
	printf("%d rounds of %u items, %lu found, %lu errors\n", ROUNDS, items, found, errors);
	ck_ht_destroy(&table);
	/* Both wait for what is retired, and say so if something was lost. */
	if (sheaf_ck_memory_fini(&memory, &live) || sheaf_cache_destroy(cache, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	return errors ? 1 : 0;
}
