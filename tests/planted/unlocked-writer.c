/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Two writers call the _locked forms of a tree, and only one of them holds the lock. They come one
 * after the other, so that nothing breaks today.
 */
#include "planted.h"

#include <sheaf/tree.h>

#define EACH 64

static struct sheaf_tree *tree;

static void *write_some(void *arg)
{
	uint64_t base = (uint64_t)(size_t)arg, i;
	bool locks = fixed || base == 0;

	rcu_register_thread();
	await(base != 0);
	for (i = 0; i < EACH; i++) {
		if (locks)
			sheaf_tree_lock(tree);
		must(sheaf_tree_store_locked(tree, NULL, base + 2 * i, base + 2 * i, &tree) == 0,
		     "no store");
		if (locks)
			sheaf_tree_unlock(tree);
	}
	/* Both are there to the end: DRD forgets who has ended. */
	reach(base ? 2 : 1);
	await(2);
	rcu_unregister_thread();
	return NULL;
}

int main(int argc, char **argv)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &source.gp};
	pthread_t threads[2];
	size_t i;

	planted_begin(argc, argv);
	must(sheaf_tree_create(&tree, &attr) == 0, "no tree");
	for (i = 0; i < 2; i++)
		must(pthread_create(&threads[i], NULL, write_some, (void *)(i * 1000)) == 0,
		     "no thread");
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	must(sheaf_tree_destroy(tree) == 0, "the tree does not end");
	return planted_end();
}
