/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of each source over a liburcu flavour (the one this program is built for) that it
 * keeps what every source has to keep, also where the numbers of its periods wrap; and of
 * sources that say "elapsed" too early that this would have shown.
 */
#include FLAVOR_HEADER

#include <sheaf/gp.h>

#include "base/atomic.h"
#include "common.h"
#include "conform.h"

#include <errno.h>
#include <stdio.h>

static struct sheaf_gp_urcu urcu;
static struct sheaf_gp_call_rcu call;
static struct sheaf_gp_poll polled;

static int urcu_begin(uint64_t first)
{
	(void)first;
	return sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL);
}

static void urcu_end(void)
{
	sheaf_gp_urcu_fini(&urcu);
}

static int call_begin(uint64_t first)
{
	int err = sheaf_gp_call_rcu_init(&call, &rcu_flavor);

	call.begun = call.gp.completed = first;
	return err;
}

static void call_end(void)
{
	sheaf_gp_call_rcu_fini(&call);
}

static int poll_begin(uint64_t first)
{
	int err = sheaf_gp_poll_init(&polled, &rcu_flavor);

	if (!err)
		polled.begun = polled.gp.completed = first;
	return err;
}

static void poll_end(void)
{
	sheaf_gp_poll_fini(&polled);
}

/*
 * What must not pass: the call_rcu source, with tickets of the past.
 */
static struct sheaf_gp_ops broken_ops;
static const struct sheaf_gp_ops *right_ops;

static uint64_t ticket_of_now(struct sheaf_gp *gp)
{
	return load_acquire(&gp->completed);
}

/* That of the period that has begun already. */
static uint64_t ticket_of_the_last(struct sheaf_gp *gp)
{
	return right_ops->ticket(gp) - 4;
}

static int break_call(uint64_t first, uint64_t (*ticket)(struct sheaf_gp *gp))
{
	int err = call_begin(first);

	right_ops = call.gp.ops;
	broken_ops = *right_ops;
	broken_ops.ticket = ticket;
	call.gp.ops = &broken_ops;
	return err;
}

static int now_begin(uint64_t first)
{
	return break_call(first, ticket_of_now);
}

static int last_begin(uint64_t first)
{
	return break_call(first, ticket_of_the_last);
}

static const struct source {
	const char *name;
	struct sheaf_gp *gp;
	int (*begin)(uint64_t first);
	void (*end)(void);
	uint64_t first;
	bool broken;
} sources[] = {
	{"urcu", &urcu.gp, urcu_begin, urcu_end, 0, false},
	{"call_rcu", &call.gp, call_begin, call_end, 0, false},
	{"call_rcu, wrapping", &call.gp, call_begin, call_end, UINT64_MAX - 19, false},
	{"poll", &polled.gp, poll_begin, poll_end, 0, false},
	{"poll, wrapping", &polled.gp, poll_begin, poll_end, UINT64_MAX - 39, false},
	{"elapsed at once", &call.gp, now_begin, call_end, 0, true},
	{"a period too early", &call.gp, last_begin, call_end, 0, true},
};

#define SOURCES (sizeof(sources) / sizeof(sources[0]))

static void quiescent(void)
{
	rcu_quiescent_state();
}

static void reader_begin(void)
{
	rcu_register_thread();
}

static void reader_end(void)
{
	rcu_unregister_thread();
}

/* On a machine that is busy elsewhere, readers may not meet a fault in one run. */
#define RUNS_MOST 30

START_TEST(passes_if_and_only_if_right)
{
	const struct source *source = &sources[_i];
	const struct conform conform = {
		.gp = source->gp,
		.wraps = source->first && !source->broken,
		.reader_begin = reader_begin,
		.reader_end = reader_end,
		.quiescent = quiescent,
		.waits = true,
	};
	struct conform_result result;
	unsigned runs = 0;
	int err;

	err = source->begin(source->first);
	if (err == -ENOTSUP) {
		printf("# %s: not with this liburcu\n", source->name);
		return;
	}
	ck_assert_int_eq(err, 0);
	do
		result = conform_run(&conform, source->broken ? 400 : test_more(400));
	while (source->broken && !result.early && ++runs < RUNS_MOST);
	source->end();
	ck_assert_uint_gt(result.sections, 0);
	ck_assert_uint_gt(result.tickets, 0);
	if (source->broken) {
		ck_assert_msg(result.early, "%s: not caught", source->name);
		return;
	}
	ck_assert_msg(!conform_errors(&result), "%s: %u errors", source->name,
		      conform_errors(&result));
	ck_assert_uint_eq(result.unaware, 0);
	if (source->first)
		ck_assert_uint_lt(source->gp->completed, UINT64_MAX / 2);
}
END_TEST

/* One that is a reader as long as it is online, where the flavour has such, ends a source that has periods to run. */
START_TEST(ended_by_a_reader)
{
	rcu_register_thread();
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_int_eq(urcu_begin(0), 0);
		sheaf_gp_ticket(&urcu.gp);
		if (i % 2)
			test_sleep_ms(1);
		urcu_end();
	}
	rcu_unregister_thread();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("sources-" FLAVOR_NAME);

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, passes_if_and_only_if_right, 0, SOURCES);
	tcase_add_test(tc, ended_by_a_reader);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
