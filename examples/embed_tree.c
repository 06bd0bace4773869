/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A tree of your own whose writes cannot fail half way: each insertion copies the way from the root,
 * the nodes for it are set aside before the lock is taken, and readers see one tree or the next.
 */
#include <sheaf/cache.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#define KEYS 2000u

struct node {
	struct node *child[2];
	unsigned key;
};

static struct {
	struct node *root;
	unsigned height; /* no way from the root has more nodes */
	pthread_mutex_t lock;
} tree = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct sheaf_gp_urcu source;
static struct sheaf_cache *nodes;

/* Copies of all nodes on the way, and a new one at its end. Allocations in here cannot fail. */
static struct node *copy_way(struct sheaf *reserve, struct node *old, unsigned key, unsigned depth)
{
	struct node *node = sheaf_cache_alloc_from(nodes, reserve);

	if (!old) {
		*node = (struct node){{NULL, NULL}, key};
		if (depth > tree.height)
			__atomic_store_n(&tree.height, depth, __ATOMIC_RELAXED);
		return node;
	}
	*node = *old;
	node->child[key > old->key] = copy_way(reserve, old->child[key > old->key], key, depth + 1);
	return node;
}

/* What was copied is retired: readers may be on it. */
static void retire_way(struct node *old, unsigned key)
{
	while (old) {
		struct node *next = old->child[key > old->key];

		sheaf_cache_free_rcu(nodes, old);
		old = next;
	}
}

static int tree_insert(unsigned key)
{
	/* Another writer may have made the tree higher before we have the lock. */
	unsigned bound = __atomic_load_n(&tree.height, __ATOMIC_RELAXED) + 1;
	struct sheaf *reserve = sheaf_cache_prefill(nodes, bound, SHEAF_STRICT);
	struct node *old, *new;

	if (!reserve)
		return -ENOMEM;
	pthread_mutex_lock(&tree.lock);
	while (tree.height + 1 > bound) {
		bound = tree.height + 1;
		pthread_mutex_unlock(&tree.lock);
		if (sheaf_cache_refill(nodes, &reserve, bound, 0)) {
			sheaf_cache_return(nodes, reserve);
			return -ENOMEM;
		}
		pthread_mutex_lock(&tree.lock);
	}
	/* From here to the unlock nothing fails, and nothing waits for memory. */
	old = tree.root;
	new = copy_way(reserve, old, key, 1);
	__atomic_store_n(&tree.root, new, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&tree.lock);
	retire_way(old, key);
	sheaf_cache_return(nodes, reserve);
	return 0;
}

static int tree_has(unsigned key)
{
	struct node *node;
	int found;

	sheaf_gp_read_lock(&source.gp);
	node = __atomic_load_n(&tree.root, __ATOMIC_ACQUIRE);
	while (node && node->key != key)
		node = node->child[key > node->key];
	found = node != NULL;
	sheaf_gp_read_unlock(&source.gp);
	return found;
}

/* Keys of one parity in an order without one, each looked up at once. */
static void *insert_half(void *parity)
{
	unsigned i, wrong = 0;

	rcu_register_thread();
	for (i = 0; i < KEYS; i++) {
		unsigned key = 2 * (i * 617u % KEYS) + *(unsigned *)parity;

		wrong += tree_insert(key) != 0 || !tree_has(key);
	}
	rcu_unregister_thread();
	return (void *)(size_t)wrong;
}

static unsigned free_all(struct node *node)
{
	unsigned n = 0;

	if (node) {
		n = 1 + free_all(node->child[0]) + free_all(node->child[1]);
		sheaf_cache_free(nodes, node);
	}
	return n;
}

int main(void)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = sizeof(struct node), .gp = &source.gp};
	unsigned parities[2] = {0, 1}, n, i;
	size_t wrong = 0;
	pthread_t threads[2];

	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&nodes, &attr))
		return 1;
	for (i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, insert_half, &parities[i]))
			return 1;
	for (i = 0; i < 2; i++) {
		void *result;

		pthread_join(threads[i], &result);
		wrong += (size_t)result;
	}
	n = free_all(tree.root);
	printf("%u keys, %u high, %zu errors\n", n, tree.height, wrong);
	if (sheaf_cache_destroy(nodes, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	return wrong || n != 2 * KEYS ? 1 : 0;
}
