/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of a source with a driver what ThreadSanitizer can see of it (G1 and G4 in
 * lib/gp_driver.c): what was done before a ticket happens before synchronize(), and what
 * synchronize() found happens before what is done once the ticket has elapsed. The
 * memory is plain, and the user only polls: neither locks nor wake-ups order it by the way.
 */
#include <sheaf/gp.h>

#include "base/atomic.h"
#include "common.h"

/* Plain. The user writes both; a period reads the one and writes the other. */
static uint64_t unlinked;
static uint64_t read_last;
static unsigned periods;

static void look(struct sheaf_gp_driver *driver)
{
	(void)driver;
	read_last = unlinked;
	periods++;
}

static bool no_section(struct sheaf_gp_driver *driver)
{
	(void)driver;
	return false;
}

static void nothing(void)
{
}

static const struct sheaf_gp_driver_ops kind = {
	.name = "looking",
	.synchronize = look,
	.read_ongoing = no_section,
};

/* Nobody else takes tickets, so there is a period for each, and none besides. */
START_TEST(a_period_is_between_unlinking_and_reuse)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = 1};
	unsigned rounds = test_tsan() ? 3000 : test_rounds(3000);
	struct sheaf_gp_driver driver;

	unlinked = read_last = 0;
	periods = 0;
	ck_assert_int_eq(sheaf_gp_driver_init(&driver, &kind, &attr, nothing, nothing), 0);
	for (uint64_t i = 1; i <= rounds; i++) {
		uint64_t ticket;

		unlinked = i;
		ticket = sheaf_gp_ticket(&driver.gp);
		while (!sheaf_gp_elapsed(&driver.gp, ticket))
			if (i % 8 == 0)
				test_pause();
		ck_assert_uint_eq(read_last, i);
		ck_assert_uint_eq(periods, i);
		read_last = 0;
	}
	sheaf_gp_driver_fini(&driver);
}
END_TEST

/*
 * Each ticket but the first is taken in the midst of the period before, which is told by relaxed words: the driver
 * is awake all the time, so that no wake-up orders what the user has written. Period n reads place n.
 */
#define TICKETS 500

static uint64_t places[TICKETS];
static unsigned noted, begun;

static void look_in_the_midst(struct sheaf_gp_driver *driver)
{
	(void)driver;
	store_relaxed(&begun, periods + 1);
	if (periods < TICKETS)
		read_last += places[periods];
	periods++;
	while (load_relaxed(&noted) <= periods && load_relaxed(&noted) < TICKETS)
		test_pause();
}

static const struct sheaf_gp_driver_ops kind_in_the_midst = {
	.name = "in the midst",
	.synchronize = look_in_the_midst,
	.read_ongoing = no_section,
};

START_TEST(a_ticket_in_the_midst_of_a_period)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = 1};
	struct sheaf_gp_driver driver;
	uint64_t ticket = 0, before = 0, sum = 0;

	read_last = periods = noted = begun = 0;
	ck_assert_int_eq(sheaf_gp_driver_init(&driver, &kind_in_the_midst, &attr, nothing, nothing),
			 0);
	for (unsigned i = 0; i < TICKETS; i++) {
		/* Else it would be of that period. */
		while (load_relaxed(&begun) < i)
			test_pause();
		places[i] = i + 1;
		sum += places[i];
		before = ticket;
		ticket = sheaf_gp_ticket(&driver.gp);
		store_relaxed(&noted, i + 1);
		/* The period of the one before ends now that this one is noted. */
		while (i && !sheaf_gp_elapsed(&driver.gp, before))
			test_pause();
	}
	while (!sheaf_gp_elapsed(&driver.gp, ticket))
		test_pause();
	ck_assert_uint_eq(periods, TICKETS);
	ck_assert_uint_eq(read_last, sum);
	sheaf_gp_driver_fini(&driver);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("order");

	tcase_set_timeout(tc, test_full() ? 600 : 60);
	tcase_add_test(tc, a_period_is_between_unlinking_and_reuse);
	tcase_add_test(tc, a_ticket_in_the_midst_of_a_period);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
