/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A sequence of writes to a tree that can be played again: beside the oracle, until the tree
 * is not what it must be; made as short as it can be while it still goes wrong; and printed as a
 * C function.
 */
#ifndef TESTS_TREE_SEQUENCE_H
#define TESTS_TREE_SEQUENCE_H

#include "oracle.h"

#include <stdio.h>

enum call { CALL_STORE, CALL_INSERT, CALL_ERASE, CALL_STEP, CALLS };

/* One call. Erase: the key is first. Step: of the grace-period source. */
struct op {
	enum call call;
	uint64_t first;
	uint64_t last;
	void *entry;
};

struct sequence {
	size_t n;
	size_t room;
	struct op *op;
};

/* Makes the call, and nothing else: returns what it returned. Tests of this file plant faults
 * by others than sequence_call(). */
typedef int (*sequence_caller)(struct rig *rig, const struct op *op);

int sequence_call(struct rig *rig, const struct op *op);

void sequence_add(struct sequence *sequence, const struct op *op);
void sequence_fini(struct sequence *sequence);

/* Make a call on both. NULL, or what is wrong with what it returned or with the tree then. */
const char *sequence_play(struct rig *rig, struct oracle *oracle, const struct op *op,
			  sequence_caller caller);

/* What goes wrong in a sequence on a tree of its own, and at which call; NULL: nothing. */
const char *sequence_wrong(const struct sequence *sequence, uint32_t capacity, unsigned flags,
			   sequence_caller caller, size_t *at);

/*
 * Of a sequence that goes wrong: leave out what it does without (runs of calls, then shorter
 * ones, until no single call can be left out), then make what is left simpler. Returns what
 * still goes wrong.
 */
const char *sequence_shrink(struct sequence *sequence, uint32_t capacity, unsigned flags,
			    sequence_caller caller);

/* As a function that a test can take over. */
void sequence_print(const struct sequence *sequence, FILE *out);

#endif
