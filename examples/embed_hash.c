/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A hash table of your own with nodes from a cache: readers take no lock, writers lock a bucket, and
 * a node that was replaced or removed is retired.
 */
#include <sheaf/cache.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#define BUCKETS 64

struct node {
	struct node *next;
	unsigned long key;
	unsigned long value;
	unsigned long sum; /* key + value, as long as the memory is ours */
};

struct bucket {
	struct node *head;
	pthread_mutex_t lock;
};

static unsigned long operations = 50000;
static struct bucket table[BUCKETS];
static struct sheaf_cache *nodes;
static struct sheaf_gp_urcu source;

static struct bucket *bucket_of(unsigned long key)
{
	return &table[key * 0x9e3779b97f4a7c15ul >> 58];
}

/* The link that leads to a key, or the last one, which is NULL. */
static struct node **find(struct bucket *bucket, unsigned long key)
{
	struct node **link = &bucket->head;

	while (*link && (*link)->key != key)
		link = &(*link)->next;
	return link;
}

/* The node is made before the lock is taken: there nothing can fail, and nothing waits. */
static int table_set(unsigned long key, unsigned long value)
{
	struct bucket *bucket = bucket_of(key);
	struct node *node = sheaf_cache_alloc(nodes, 0), **link, *old;

	if (!node)
		return -ENOMEM;
	pthread_mutex_lock(&bucket->lock);
	link = find(bucket, key);
	old = *link;
	*node = (struct node){old ? old->next : NULL, key, value, key + value};
	__atomic_store_n(link, node, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&bucket->lock);
	sheaf_cache_free_rcu(nodes, old); /* NULL is ignored */
	return 0;
}

static int table_remove(unsigned long key)
{
	struct bucket *bucket = bucket_of(key);
	struct node **link, *old;

	pthread_mutex_lock(&bucket->lock);
	link = find(bucket, key);
	old = *link;
	if (old)
		__atomic_store_n(link, old->next, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&bucket->lock);
	sheaf_cache_free_rcu(nodes, old);
	return old ? 0 : -ENOENT;
}

/* Copies what it finds: after the section the node may be another one's. */
static int table_get(unsigned long key, unsigned long *value)
{
	struct node *node;
	int err = -ENOENT;

	sheaf_gp_read_lock(&source.gp);
	for (node = __atomic_load_n(&bucket_of(key)->head, __ATOMIC_ACQUIRE); node;
	     node = __atomic_load_n(&node->next, __ATOMIC_ACQUIRE)) {
		if (node->key == key) {
			err = node->sum == key + node->value ? 0 : -EIO;
			*value = node->value;
			break;
		}
	}
	sheaf_gp_read_unlock(&source.gp);
	return err;
}

static void *work(void *wrong)
{
	unsigned long i, value;
	uint64_t random = (uint64_t)(size_t)wrong;

	rcu_register_thread();
	for (i = 0; i < operations; i++) {
		unsigned long key;

		random = random * 6364136223846793005u + 1442695040888963407u;
		key = random >> 56;
		if (i % 4 == 0 && table_set(key, i))
			++*(int *)wrong;
		else if (i % 4 == 1)
			table_remove(key);
		else if (table_get(key, &value) == -EIO)
			++*(int *)wrong;
	}
	rcu_unregister_thread();
	return NULL;
}

/* The argument is how many operations each thread does. */
int main(int argc, char **argv)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = sizeof(struct node),
					.name = "table nodes",
					.gp = &source.gp};
	int wrong[2] = {0}, i;
	unsigned long key, left = 0;
	pthread_t threads[2];

	if (argc > 1)
		operations = strtoul(argv[1], NULL, 10);
	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&nodes, &attr))
		return 1;
	for (i = 0; i < BUCKETS; i++)
		pthread_mutex_init(&table[i].lock, NULL);
	for (i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, work, &wrong[i]))
			return 1;
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (key = 0; key < 256; key++)
		left += table_remove(key) == 0;
	printf("%lu keys were left, %d errors\n", left, wrong[0] + wrong[1]);
	/* All nodes are back: destroy would tell how many are not. */
	if (sheaf_cache_destroy(nodes, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	return wrong[0] + wrong[1] ? 1 : 0;
}
