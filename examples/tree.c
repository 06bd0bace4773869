/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A map of address ranges. Readers look an address up without a lock; the writer moves a
 * range in a section that must not fail: what it needs is set aside before.
 */
#include <sheaf/tree.h>

#include <inttypes.h>
#include <stdio.h>
#include <urcu.h>

static const char *name_at(const struct sheaf_tree *map, uint64_t address)
{
	const char *name = sheaf_tree_load(map, address);

	return name ? name : "nothing";
}

/* Find a place of this size and move the range that holds an address there. */
static int move(struct sheaf_tree *map, uint64_t address, uint64_t size, uint64_t *to)
{
	struct sheaf_tree_prep prep;
	void *name;
	int err;

	do {
		err = sheaf_tree_prepare(map, &prep, 2);
		if (err)
			return err;
		sheaf_tree_lock(map);
		if (sheaf_tree_prepared_locked(map, &prep))
			break;
		/* Another writer has made the tree higher meanwhile. */
		sheaf_tree_unlock(map);
		sheaf_tree_finish(map, &prep);
	} while (1);
	/* From here on nothing can run out of memory half way. */
	err = sheaf_tree_lowest_gap_locked(map, 0, UINT64_MAX, size, 4096, to);
	if (!err)
		err = sheaf_tree_erase_locked(map, &prep, address, &name);
	if (!err)
		err = sheaf_tree_store_locked(map, &prep, *to, *to + size - 1, name);
	sheaf_tree_unlock(map);
	sheaf_tree_finish(map, &prep);
	return err;
}

int main(void)
{
	struct sheaf_gp_urcu source;
	struct sheaf_tree_attr attr = {
		.size = sizeof(attr), .gp = &source.gp, .flags = SHEAF_TREE_GAPS};
	struct sheaf_tree *map;
	uint64_t to = 0;
	int err;

	rcu_register_thread();
	err = sheaf_gp_urcu_init(&source, &rcu_flavor, NULL);
	if (!err)
		err = sheaf_tree_create(&map, &attr);
	if (err) {
		fprintf(stderr, "no tree: error %d\n", -err);
		return 1;
	}
	err = sheaf_tree_insert(map, 0, 0x1fff, "text");
	if (!err)
		err = sheaf_tree_insert(map, 0x8000, 0xffff, "data");
	if (!err)
		err = sheaf_tree_store(map, 0x9000, 0x9fff, "a page of its own");
	if (!err)
		err = move(map, 0x9000, 0x1000, &to);
	if (!err)
		printf("moved to %#" PRIx64 ": %s; where it was: %s; next to it: %s\n", to,
		       name_at(map, to), name_at(map, 0x9000), name_at(map, 0xa000));
	if (sheaf_tree_destroy(map) == 0)
		sheaf_gp_urcu_fini(&source);
	rcu_unregister_thread();
	return err ? 1 : 0;
}
