/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A tree as text, and as a graph for dot(1). */
#include "tree_node.h"

#include <errno.h>
#include <inttypes.h>

static void dump_gap(const struct tree_inner *inner, const char *word, uint32_t i, FILE *out)
{
	if (inner->gaps)
		fprintf(out, "%s%" PRIu64, word, inner->gaps->gap[i]);
}

/* Recursion is as deep as the tree is high. */
static void dump_text(const struct tree_step *step, unsigned depth, FILE *out)
{
	const struct tree_node *node = step->node;
	const struct tree_leaf *leaf = tree_leaf(node);
	const struct tree_inner *inner = tree_inner(node);
	uint32_t i;

	fprintf(out, "%*s%s %" PRIu64 "..%" PRIu64 " level %u count %u\n", (int)(2 * depth), "",
		node->level ? "inner" : "leaf", step->lo, step->hi, node->level, node->count);
	for (i = 0; i < node->count; i++) {
		struct tree_step below;

		if (!node->level) {
			const uint32_t slot = tree_order_at(tree_list(leaf), i);

			fprintf(out, "%*s%" PRIu64 "..%" PRIu64 " %p\n", (int)(2 * depth + 2), "",
				tree_first(leaf, slot), tree_last(leaf, slot),
				*tree_entry_at(leaf, slot));
			continue;
		}
		tree_step_down(&below, step, i);
		fprintf(out, "%*s[%u]", (int)(2 * depth + 2), "", i);
		dump_gap(inner, " gap ", i, out);
		fprintf(out, "\n");
		dump_text(&below, depth + 2, out);
	}
}

/* Nodes are named by number, in the order they are met. */
static unsigned dump_graph(const struct tree_step *step, unsigned *named, FILE *out)
{
	const struct tree_node *node = step->node;
	const struct tree_leaf *leaf = tree_leaf(node);
	const struct tree_inner *inner = tree_inner(node);
	const unsigned name = (*named)++;
	uint32_t i;

	fprintf(out, "\tn%u [label=\"", name);
	for (i = 0; i < node->count; i++) {
		fprintf(out, "%s<s%u> ", i ? "|" : "", i);
		if (!node->level) {
			const uint32_t slot = tree_order_at(tree_list(leaf), i);

			fprintf(out, "%" PRIu64 "..%" PRIu64 "\\n%p", tree_first(leaf, slot),
				tree_last(leaf, slot), *tree_entry_at(leaf, slot));
			continue;
		}
		if (i + 1u < node->count)
			fprintf(out, "to %" PRIu64, inner->pivot[i]);
		else
			fprintf(out, "rest");
		dump_gap(inner, "\\ngap ", i, out);
	}
	fprintf(out, "\"];\n");
	for (i = 0; node->level && i < node->count; i++) {
		struct tree_step below;
		unsigned child;

		tree_step_down(&below, step, i);
		child = dump_graph(&below, named, out);
		fprintf(out, "\tn%u:s%u -> n%u;\n", name, i, child);
	}
	return name;
}

int sheaf_tree_dump(const struct sheaf_tree *tree, enum sheaf_tree_form form, FILE *out)
{
	const struct tree_step root = {.node = tree->root, .lo = 0, .hi = UINT64_MAX};
	unsigned named = 0;

	switch (form) {
	case SHEAF_TREE_TEXT:
		fprintf(out, "tree height %u entries %" PRIu64 "\n", tree->height, tree->entries);
		if (root.node)
			dump_text(&root, 1, out);
		return 0;
	case SHEAF_TREE_GRAPHVIZ:
		fprintf(out, "digraph tree {\n\tnode [shape=record];\n");
		if (root.node)
			dump_graph(&root, &named, out);
		fprintf(out, "}\n");
		return 0;
	}
	return -EINVAL;
}
