/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What the tree is compared with: a plain sorted array of ranges, and a set-up with a
 * backend that can be forbidden or made to fail.
 */
#ifndef TESTS_TREE_ORACLE_H
#define TESTS_TREE_ORACLE_H

#include <sheaf/tree.h>

#include "common.h"

/* An assertion for loops: Check writes a file for each of its own that holds. */
#define expect(cond)                                                                               \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("%s", #cond);                                                 \
	} while (0)

struct oracle_range {
	uint64_t first;
	uint64_t last;
	void *entry;
};

struct oracle {
	size_t n;
	size_t room;
	struct oracle_range *range;
};

void oracle_fini(struct oracle *oracle);

/* The first range whose last key is not below @p key; n if there is none. */
size_t oracle_at(const struct oracle *oracle, uint64_t key);

void *oracle_load(const struct oracle *oracle, uint64_t key);

/* NULL erases. True if anything changed. */
bool oracle_store(struct oracle *oracle, uint64_t first, uint64_t last, void *entry);

/* As the tree's, in 128-bit arithmetic over all holes. */
int oracle_gap(const struct oracle *oracle, const struct sheaf_tree_gap *gap, uint64_t *at);

/* A tree on a cache on a backend of ours, with a manual source. */
struct rig {
	struct sheaf_gp_manual gp;
	struct sheaf_cache *nodes;
	struct sheaf_tree *tree;
	/* Objects that the backend has out. */
	size_t out;
	/* Objects it will still hand out. */
	size_t budget;
	/* It aborts when called. */
	bool forbidden;
};

void rig_init(struct rig *rig, uint32_t capacity, unsigned flags);

/* Asserts that no node is lost. */
void rig_fini(struct rig *rig);

/* Let all that is retired ripen, and give all that is free to the backend. */
void rig_drain(struct rig *rig);

/* Is the tree valid, and does it hold what the oracle does, by stats and cursors? NULL, or what is
 * wrong. */
const char *rig_wrong(const struct rig *rig, const struct oracle *oracle);

/* Asserts it. */
void rig_compare(const struct rig *rig, const struct oracle *oracle);

#endif
