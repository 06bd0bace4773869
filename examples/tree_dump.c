/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a tree looks like inside: ranges, then single keys, then ranges with holes, as a graph
 * for dot(1). With "text" as an argument as lines to read. Entries are numbers here.
 */
#include <sheaf/tree.h>

#include <stdio.h>
#include <string.h>

#define RANGES 28

int main(int argc, char **argv)
{
	struct sheaf_gp_manual source;
	struct sheaf_tree_attr attr = {
		.size = sizeof(attr), .gp = &source.gp, .flags = SHEAF_TREE_GAPS};
	struct sheaf_tree_range range[RANGES];
	struct sheaf_tree *tree;
	uint64_t at = 4096;
	uintptr_t i;
	int err;

	for (i = 0; i < RANGES; i++) {
		const uint64_t size = i < 10 ? 4096 : i < 23 ? 1 : 512;

		range[i] = (struct sheaf_tree_range){at, at + size - 1, (void *)(i + 1)};
		at += size + (i % 4 == 3 ? 1024 : i < 23 ? 0 : 64);
	}
	sheaf_gp_manual_init(&source, 0);
	if (sheaf_tree_create(&tree, &attr))
		return 1;
	err = sheaf_tree_build(tree, range, RANGES);
	if (!err)
		err = sheaf_tree_dump(tree,
				      argc > 1 && !strcmp(argv[1], "text") ? SHEAF_TREE_TEXT
									   : SHEAF_TREE_GRAPHVIZ,
				      stdout);
	sheaf_tree_clear(tree);
	/* What is stepped by hand has nobody else to wait for. */
	sheaf_gp_manual_step(&source);
	if (sheaf_tree_destroy(tree))
		return 1;
	return err || ferror(stdout) ? 1 : 0;
}
