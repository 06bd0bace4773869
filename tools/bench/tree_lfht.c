/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * liburcu's hash table: point keys, RCU readers, lock-free writers. It has no order. It
 * starts small and grows by itself, as one does who cannot know how many will come.
 */
#include "peers_in.h"

#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>
#include <urcu/rculfhash.h>

struct entry {
	struct cds_lfht_node node;
	struct rcu_head head;
	uint64_t key;
	void *value;
};

static unsigned long hash(uint64_t key)
{
	key = (key ^ (key >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
	return (unsigned long)(key ^ (key >> 29));
}

static int match(struct cds_lfht_node *node, const void *key)
{
	return caa_container_of(node, struct entry, node)->key == *(const uint64_t *)key;
}

static void entry_free(struct rcu_head *head)
{
	free(caa_container_of(head, struct entry, head));
}

static void *lfht_setup(const struct bench_env *env)
{
	(void)env;
	return cds_lfht_new(1024, 1024, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
}

static void lfht_clear(void *ctx)
{
	struct cds_lfht_iter iter;
	struct entry *entry;

	rcu_register_thread();
	rcu_read_lock();
	cds_lfht_for_each_entry(ctx, &iter, entry, node)
	{
		if (cds_lfht_del(ctx, &entry->node) == 0)
			call_rcu(&entry->head, entry_free);
	}
	rcu_read_unlock();
	rcu_barrier();
	rcu_unregister_thread();
}

static void lfht_teardown(void *ctx)
{
	lfht_clear(ctx);
	if (cds_lfht_destroy(ctx, NULL))
		fprintf(stderr, "cds_lfht_destroy failed\n");
}

static void lfht_enter(void *ctx)
{
	(void)ctx;
	rcu_register_thread();
}

static void lfht_leave(void *ctx)
{
	(void)ctx;
	rcu_unregister_thread();
}

static struct cds_lfht_node *find(void *ctx, uint64_t key)
{
	struct cds_lfht_iter iter;

	cds_lfht_lookup(ctx, hash(key), match, &key, &iter);
	return cds_lfht_iter_get_node(&iter);
}

static void *lfht_load(void *ctx, uint64_t key)
{
	struct cds_lfht_node *node;
	void *value = NULL;

	rcu_read_lock();
	node = find(ctx, key);
	if (node)
		value = caa_container_of(node, struct entry, node)->value;
	rcu_read_unlock();
	return value;
}

static bool lfht_store(void *ctx, uint64_t first, uint64_t last, void *value)
{
	struct entry *entry = malloc(sizeof(*entry));
	struct cds_lfht_node *old;

	(void)last;
	if (!entry)
		return false;
	cds_lfht_node_init(&entry->node);
	entry->key = first;
	entry->value = value;
	rcu_read_lock();
	old = cds_lfht_add_replace(ctx, hash(first), match, &first, &entry->node);
	rcu_read_unlock();
	if (old)
		call_rcu(&caa_container_of(old, struct entry, node)->head, entry_free);
	return true;
}

static bool lfht_erase(void *ctx, uint64_t key)
{
	struct cds_lfht_node *node;
	bool done;

	rcu_read_lock();
	node = find(ctx, key);
	done = node && cds_lfht_del(ctx, node) == 0;
	rcu_read_unlock();
	if (done)
		call_rcu(&caa_container_of(node, struct entry, node)->head, entry_free);
	return done;
}

static const struct tree_ops lfht_ops = {
	.setup = lfht_setup,
	.teardown = lfht_teardown,
	.enter = lfht_enter,
	.leave = lfht_leave,
	.load = lfht_load,
	.store = lfht_store,
	.erase = lfht_erase,
	.clear = lfht_clear,
};

static void lfht_version(char *text, size_t bytes)
{
	snprintf(text, bytes, "%s", URCU_VERSION);
}

const struct bench_peer peer_lfht = {.points = &lfht_ops, .version = lfht_version};
