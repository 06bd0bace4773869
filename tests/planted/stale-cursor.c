/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A cursor goes on after its read section, and after the node it stood on was replaced. */
#include "planted.h"

#include <sheaf/tree.h>

#define RANGES 100

int main(int argc, char **argv)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr)};
	struct sheaf_tree_cursor cursor;
	struct sheaf_cache *nodes;
	struct sheaf_tree *tree;
	uint64_t i, seen = 0;
	void *entry;

	planted_begin(argc, argv);
	must(sheaf_tree_nodes_create(&nodes, &source.gp) == 0, "no cache of nodes");
	attr.gp = &source.gp;
	attr.nodes = nodes;
	must(sheaf_tree_create(&tree, &attr) == 0, "no tree");
	for (i = 0; i < RANGES; i++)
		must(sheaf_tree_store(tree, 2 * i, 2 * i, &attr) == 0, "no store");
	rcu_register_thread();
	rcu_read_lock();
	sheaf_tree_cursor_init(&cursor, tree);
	entry = sheaf_tree_find_rcu(&cursor, RANGES);
	if (fixed)
		sheaf_tree_cursor_pause(&cursor);
	rcu_read_unlock();

	sheaf_tree_clear(tree);
	must(sheaf_cache_barrier(nodes) == 0, "no barrier");
	sheaf_cache_shrink(nodes);

	rcu_read_lock();
	for (; entry; entry = sheaf_tree_next_rcu(&cursor))
		seen++;
	rcu_read_unlock();
	rcu_unregister_thread();
	printf("%llu\n", (unsigned long long)seen);
	must(sheaf_tree_destroy(tree) == 0, "the tree does not end");
	must(sheaf_cache_destroy(nodes, NULL) == 0, "nodes live");
	return planted_end();
}
