/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the shrinker itself that it finds what matters in a long sequence. Faults are
 * planted between the sequence and the tree, each of which needs certain calls in a certain
 * order; random sequences in which they show are shrunk to those calls and no others,
 * still go wrong, and what is printed of them compiles.
 */
#include "sequence.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One call is enough: a store of a range of 7 keys is one key short. */
static int short_by_one(struct rig *rig, const struct op *op)
{
	struct op call = *op;

	if (op->call == CALL_STORE && op->entry && op->last - op->first == 6)
		call.last--;
	return sequence_call(rig, &call);
}

/* Two are: an erase of a range that is there does not happen, but says it did. */
static int erase_is_lost(struct rig *rig, const struct op *op)
{
	if (op->call == CALL_ERASE && sheaf_tree_load_rcu(rig->tree, op->first))
		return 0;
	return sequence_call(rig, op);
}

/* Three are: what is stored where there are two ranges or more gets a wrong entry. */
static int third_is_wrong(struct rig *rig, const struct op *op)
{
	struct sheaf_tree_stats stats;
	struct op call = *op;

	sheaf_tree_stats(rig->tree, &stats);
	if (op->call == CALL_STORE && op->entry && stats.entries >= 2)
		call.entry = rig;
	return sequence_call(rig, &call);
}

static const struct {
	sequence_caller caller;
	size_t calls;
} plants[] = {
	{short_by_one, 1},
	{erase_is_lost, 2},
	{third_is_wrong, 3},
};

/* Grows faster than it shrinks, so that each plant has its day. */
static void random_sequence(struct sequence *sequence, unsigned n, uint64_t *state)
{
	while (n--) {
		struct op op = {.call = (enum call)test_below(state, CALLS)};

		op.first = test_below(state, 400);
		op.last = op.first + test_below(state, 9);
		op.entry = (void *)(uintptr_t)(1 + test_below(state, 1 << 20));
		if (op.call == CALL_STORE && !test_below(state, 4))
			op.entry = NULL;
		sequence_add(sequence, &op);
	}
}

/* The function, and what it needs. */
static bool compiles(const struct sequence *sequence)
{
	char name[] = "/tmp/sheaf-sequence-XXXXXX", command[4096];
	int fd = mkstemp(name), status;
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");

	ck_assert_ptr_nonnull(out);
	fprintf(out, "#include <assert.h>\n#include <sheaf/tree.h>\n");
	sequence_print(sequence, out);
	fprintf(out, "void use(struct sheaf_tree *tree, struct sheaf_gp_manual *gp);\n"
		     "void use(struct sheaf_tree *tree, struct sheaf_gp_manual *gp)\n"
		     "{\n\tsequence(tree, gp);\n}\n");
	ck_assert_int_eq(fclose(out), 0);
	snprintf(command, sizeof(command),
		 "%s -std=c11 -Wall -Wextra -Werror -fsyntax-only -x c %s", TEST_CC, name);
	status = system(command);
	unlink(name);
	return status == 0;
}

START_TEST(shrinks_to_what_matters)
{
	const sequence_caller caller = plants[_i].caller;
	uint64_t state = test_seed() + (unsigned)_i;
	unsigned flags;

	for (flags = 0; flags < 4; flags++) {
		struct sequence sequence = {.n = 0};
		const char *wrong;
		size_t at;

		random_sequence(&sequence, 400, &state);
		/* The tree itself is right. */
		expect(!sequence_wrong(&sequence, 3, flags, sequence_call, &at));
		expect(!sequence_shrink(&sequence, 3, flags, sequence_call));
		wrong = sequence_shrink(&sequence, 3, flags, caller);
		ck_assert_msg(wrong && sequence.n == plants[_i].calls, "%zu calls are left: %s",
			      sequence.n, wrong ? wrong : "nothing wrong");
		expect(sequence_wrong(&sequence, 3, flags, caller, &at) && at + 1 == sequence.n);
		/* Other programs are not for Valgrind. */
		if (flags == 0 && !test_valgrind())
			expect(compiles(&sequence));
		sequence_fini(&sequence);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-shrink");
	TCase *tcase = tcase_create("shrink");

	tcase_add_loop_test(tcase, shrinks_to_what_matters, 0, sizeof(plants) / sizeof(plants[0]));
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
