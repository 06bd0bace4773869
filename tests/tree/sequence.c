/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "sequence.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int sequence_call(struct rig *rig, const struct op *op)
{
	switch (op->call) {
	case CALL_INSERT:
		return sheaf_tree_insert(rig->tree, op->first, op->last, op->entry);
	case CALL_ERASE:
		return sheaf_tree_erase(rig->tree, op->first, NULL);
	case CALL_STEP:
		sheaf_gp_manual_step(&rig->gp);
		return 0;
	default:
		return sheaf_tree_store(rig->tree, op->first, op->last, op->entry);
	}
}

void sequence_add(struct sequence *sequence, const struct op *op)
{
	if (sequence->n == sequence->room) {
		sequence->room = sequence->room ? 2 * sequence->room : 256;
		sequence->op = realloc(sequence->op, sequence->room * sizeof(*op));
		if (!sequence->op)
			abort();
	}
	sequence->op[sequence->n++] = *op;
}

void sequence_fini(struct sequence *sequence)
{
	free(sequence->op);
	*sequence = (struct sequence){.n = 0};
}

/* What the call must return. On success the oracle is told. */
static int play_oracle(struct oracle *oracle, const struct op *op)
{
	size_t i = oracle_at(oracle, op->first);

	switch (op->call) {
	case CALL_STEP:
		return 0;
	case CALL_ERASE:
		if (i == oracle->n || oracle->range[i].first > op->first)
			return -ENOENT;
		oracle_store(oracle, oracle->range[i].first, oracle->range[i].last, NULL);
		return 0;
	case CALL_INSERT:
		if (i < oracle->n && oracle->range[i].first <= op->last)
			return -EEXIST;
		break;
	default:
		break;
	}
	oracle_store(oracle, op->first, op->last, op->entry);
	return 0;
}

const char *sequence_play(struct rig *rig, struct oracle *oracle, const struct op *op,
			  sequence_caller caller)
{
	const int err = caller(rig, op);

	if (err != play_oracle(oracle, op))
		return "the call returns something else";
	return rig_wrong(rig, oracle);
}

const char *sequence_wrong(const struct sequence *sequence, uint32_t capacity, unsigned flags,
			   sequence_caller caller, size_t *at)
{
	struct oracle oracle = {.n = 0};
	const char *wrong = NULL;
	struct rig rig;
	size_t i;

	rig_init(&rig, capacity, flags);
	for (i = 0; i < sequence->n && !wrong; i++)
		wrong = sequence_play(&rig, &oracle, &sequence->op[i], caller);
	if (wrong && at)
		*at = i - 1;
	/* A tree that is broken is left where it is. */
	if (!sheaf_tree_check(rig.tree))
		rig_fini(&rig);
	oracle_fini(&oracle);
	return wrong;
}

struct shrinker {
	struct sequence *sequence;
	uint32_t capacity;
	unsigned flags;
	sequence_caller caller;
	const char *wrong;
};

/* Does it still go wrong? Then it ends there. */
static bool still(struct shrinker *s)
{
	const char *wrong;
	size_t at = 0;

	wrong = sequence_wrong(s->sequence, s->capacity, s->flags, s->caller, &at);
	if (!wrong)
		return false;
	s->wrong = wrong;
	s->sequence->n = at + 1;
	return true;
}

/* Leave n calls out, if it goes wrong without them. */
static bool leave_out(struct shrinker *s, size_t from, size_t n)
{
	struct sequence *sequence = s->sequence;
	struct op *op = malloc(sequence->n * sizeof(*op));
	const size_t all = sequence->n;
	bool done;

	if (!op)
		abort();
	memcpy(op, sequence->op, all * sizeof(*op));
	memmove(&sequence->op[from], &sequence->op[from + n], (all - from - n) * sizeof(*op));
	sequence->n = all - n;
	done = still(s);
	if (!done) {
		memcpy(sequence->op, op, all * sizeof(*op));
		sequence->n = all;
	}
	free(op);
	return done;
}

/* Have this call instead, if it goes wrong with it too. */
static bool instead(struct shrinker *s, size_t i, struct op op)
{
	const struct op old = s->sequence->op[i];
	const size_t all = s->sequence->n;

	if (memcmp(&op, &old, sizeof(op)) == 0)
		return false;
	s->sequence->op[i] = op;
	if (still(s))
		return true;
	s->sequence->op[i] = old;
	s->sequence->n = all;
	return false;
}

static void simplify(struct shrinker *s)
{
	size_t i;

	for (i = 0; i < s->sequence->n; i++) {
		struct op op = s->sequence->op[i];

		if (op.call == CALL_INSERT) {
			op.call = CALL_STORE;
			if (!instead(s, i, op))
				op.call = CALL_INSERT;
		}
		if (i < s->sequence->n && op.entry) {
			const struct op was = op;

			op.entry = (void *)(uintptr_t)(i + 1);
			if (!instead(s, i, op))
				op = was;
		}
		if (i < s->sequence->n && op.last != op.first) {
			op.last = op.first;
			instead(s, i, op);
		}
	}
}

const char *sequence_shrink(struct sequence *sequence, uint32_t capacity, unsigned flags,
			    sequence_caller caller)
{
	struct shrinker s = {sequence, capacity, flags, caller, NULL};
	size_t run, from;

	if (!still(&s))
		return NULL;
	for (run = sequence->n / 2; run; run /= 2) {
		bool any;

		do {
			any = false;
			for (from = 0; from + run <= sequence->n;) {
				if (leave_out(&s, from, run))
					any = true;
				else
					from += run;
			}
		} while (any && run == 1);
	}
	simplify(&s);
	return s.wrong;
}

static void print_entry(const void *entry, FILE *out)
{
	if (entry)
		fprintf(out, "(void *)UINT64_C(%" PRIuPTR ")", (uintptr_t)entry);
	else
		fprintf(out, "NULL");
}

void sequence_print(const struct sequence *sequence, FILE *out)
{
	size_t i;

	fprintf(out,
		"static void sequence(struct sheaf_tree *tree, struct sheaf_gp_manual *gp)\n{\n"
		"\t(void)gp;\n");
	for (i = 0; i < sequence->n; i++) {
		const struct op *op = &sequence->op[i];

		switch (op->call) {
		case CALL_STEP:
			fprintf(out, "\tsheaf_gp_manual_step(gp);\n");
			continue;
		case CALL_ERASE:
			fprintf(out, "\tsheaf_tree_erase(tree, UINT64_C(%" PRIu64 "), NULL);\n",
				op->first);
			continue;
		default:
			fprintf(out,
				"\tsheaf_tree_%s(tree, UINT64_C(%" PRIu64 "), UINT64_C(%" PRIu64
				"), ",
				op->call == CALL_INSERT ? "insert" : "store", op->first, op->last);
			print_entry(op->entry, out);
			fprintf(out, ");\n");
		}
	}
	fprintf(out, "\tassert(!sheaf_tree_check(tree));\n}\n");
}
