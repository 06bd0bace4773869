/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A structure of one's own: a trie from 32-bit keys to pointers, with any number of readers and
 * writers and no lock. A writer copies the nodes from the root to its key, and publishes
 * the copy by one compare-and-swap of the root. So whoever reads the root has the whole
 * trie as it was at one moment, and a writer that was overtaken begins anew.
 *
 * That happens inside a read section, which must not wait for memory: the nodes are set aside
 * before, in a prefilled sheaf. LEVELS of them suffice however often it begins anew, because a
 * copy that was not published is used for the next one.
 *
 * A root that compares equal has not come back meanwhile: it would have been retired, and used
 * again only after the read section of whoever compares.
 */
#include <sheaf/cache.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#include <sheaf/rcu.h> /* for race checkers */

#define BITS 4
#define WAYS (1u << BITS)
#define LEVELS (32 / BITS)

#define WRITERS 2
#define READERS 2
#define KEYS 256u /* of each writer */

/* Never changed once it is published. In the lowest level the children are the values. */
struct node {
	void *child[WAYS];
};

struct writer {
	pthread_t thread;
	unsigned index;
	unsigned long errors;
};

static struct sheaf_cache *nodes;
static struct node *root;
static unsigned rounds = 50;
static int stop;

static unsigned index_of(uint32_t key, int level)
{
	return key >> (BITS * (LEVELS - 1 - level)) & (WAYS - 1);
}

/* In a read section: the value of a key in the trie as it was when its root was read. */
static void *trie_get(const struct node *node, uint32_t key)
{
	for (int level = 0; node && level < LEVELS - 1; level++)
		node = node->child[index_of(key, level)];
	return node ? node->child[index_of(key, LEVELS - 1)] : NULL;
}

static bool is_empty(const struct node *node)
{
	for (unsigned i = 0; i < WAYS; i++)
		if (node->child[i])
			return false;
	return true;
}

/*
 * The root of a trie with another value of one key. Nodes that are replaced are put into old[], those
 * of the copy into copy[], which holds what an earlier attempt has taken from the reserve.
 */
static struct node *copy_way(struct node *node, uint32_t key, void *value, struct sheaf *reserve,
			     struct node **copy, struct node **old)
{
	int level;

	for (level = 0; level < LEVELS; level++) {
		if (!copy[level])
			copy[level] = sheaf_cache_alloc_from(nodes, reserve); /* cannot fail */
		old[level] = node;
		*copy[level] = node ? *node : (struct node){{NULL}};
		node = node ? node->child[index_of(key, level)] : NULL;
	}
	/* From the lowest level up. Nodes that have become empty are left out. */
	while (--level >= 0) {
		copy[level]->child[index_of(key, level)] = value;
		value = is_empty(copy[level]) ? NULL : copy[level];
	}
	return value;
}

/* Sets the value of a key, NULL for none. Returns 0; or -ENOMEM, and nothing was changed. */
static int trie_set(uint32_t key, void *value)
{
	struct sheaf *reserve = sheaf_cache_prefill(nodes, LEVELS, SHEAF_STRICT);
	struct node *copy[LEVELS] = {NULL}, *old[LEVELS], *before, *after;
	bool done = false;
	int level;

	if (!reserve)
		return -ENOMEM;
	rcu_read_lock();
	while (!done) {
		before = rcu_dereference(root);
		if (trie_get(before, key) == value)
			break;
		after = copy_way(before, key, value, reserve, copy, old);
		done = rcu_cmpxchg_pointer(&root, before, after) == before;
	}
	/* What did not become part of the trie nobody has seen, and is freed at once. */
	for (level = 0; level < LEVELS; level++)
		if (copy[level] && (!done || is_empty(copy[level])))
			sheaf_cache_free(nodes, copy[level]);
	rcu_read_unlock();
	for (level = 0; done && level < LEVELS; level++)
		sheaf_cache_free_rcu(nodes, old[level]); /* NULL is ignored */
	sheaf_cache_return(nodes, reserve);
	return 0;
}

static uint32_t key_of(unsigned writer, unsigned i)
{
	return i * 16777619u + writer; /* all over the trie */
}

static void *value_of(uint32_t key)
{
	return (void *)(uintptr_t)(key ^ 0x5a5a5a5au);
}

/* All keys in, then out again, each time in the same order. */
static void *write_keys(void *arg)
{
	struct writer *me = arg;

	rcu_register_thread();
	for (unsigned round = 0; round < 2 * rounds; round++) {
		for (unsigned i = 0; i < KEYS; i++) {
			const uint32_t key = key_of(me->index, i);

			me->errors += trie_set(key, round % 2 ? NULL : value_of(key)) != 0;
		}
	}
	rcu_unregister_thread();
	return NULL;
}

/* In each state of the trie a writer is at one place in the order of its keys, and before that all
 * are as it wants them, and behind it all as they were. */
static void *read_keys(void *errors)
{
	rcu_register_thread();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		const struct node *now;

		rcu_read_lock();
		now = rcu_dereference(root);
		for (unsigned writer = 0; writer < WRITERS; writer++) {
			unsigned changes = 0;
			bool was = false;

			for (unsigned i = 0; i < KEYS; i++) {
				const uint32_t key = key_of(writer, i);
				void *value = trie_get(now, key);

				*(unsigned long *)errors += value && value != value_of(key);
				changes += i > 0 && was != (value != NULL);
				was = value != NULL;
			}
			*(unsigned long *)errors += changes > 1;
		}
		rcu_read_unlock();
	}
	rcu_unregister_thread();
	return NULL;
}

/* Number of errors. */
static unsigned long run(void)
{
	struct writer writer[WRITERS] = {0};
	pthread_t reader[READERS];
	unsigned long bad[READERS] = {0}, errors = 0;
	unsigned i;

	for (i = 0; i < READERS; i++)
		if (pthread_create(&reader[i], NULL, read_keys, &bad[i]))
			abort();
	for (i = 0; i < WRITERS; i++) {
		writer[i].index = i;
		if (pthread_create(&writer[i].thread, NULL, write_keys, &writer[i]))
			abort();
	}
	for (i = 0; i < WRITERS; i++) {
		pthread_join(writer[i].thread, NULL);
		errors += writer[i].errors;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < READERS; i++) {
		pthread_join(reader[i], NULL);
		errors += bad[i];
	}
	return errors;
}

int main(int argc, char **argv)
{
	struct sheaf_gp_urcu source;
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = sizeof(struct node), .gp = &source.gp};
	unsigned long errors;

	if (argc > 1)
		rounds = (unsigned)atoi(argv[1]);
	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&nodes, &attr))
		return 1;
	errors = run();
	printf("%u changes, %lu errors\n", 2 * rounds * KEYS * WRITERS, errors);
	/* All keys are out, and so is each node, or this says so. */
	if (root || sheaf_cache_destroy(nodes, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	return errors ? 1 : 0;
}
