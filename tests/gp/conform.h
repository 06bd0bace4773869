/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What every grace-period source has to keep, as one test for all of them.
 *
 * Readers raise a flag inside each section. Checkers note which flags are up, take a
 * ticket, and once it has elapsed look at the same flags: a section that was running
 * must have ended. Readers also take tickets inside their own sections, which must not
 * elapse there.
 */
#ifndef TESTS_GP_CONFORM_H
#define TESTS_GP_CONFORM_H

#include <sheaf/gp.h>

/* A source, and how its readers behave. NULL where there is nothing to do. */
struct conform {
	struct sheaf_gp *gp;
	/* First and last thing a reader thread does. */
	void (*reader_begin)(void);
	void (*reader_end)(void);
	/* Into a read section and out of it; NULL means those of the source. */
	void (*lock)(void);
	void (*unlock)(void);
	/* Between two sections. */
	void (*quiescent)(void);
	/* Is there a thread that moves the source on, so that wait() works? Else poll. */
	bool waits;
	/* The numbers of its periods are about to wrap: run until they have, as long as a test is patient. Some periods
	 * have to end for that, and a busy machine may not run them in the time. */
	bool wraps;
};

/* What was done, and each kind of broken promise. */
struct conform_result {
	unsigned sections;
	unsigned tickets;
	/* Elapsed while a section that it has to wait for was running. */
	unsigned early;
	/* A later ticket was before an earlier one. */
	unsigned backwards;
	/* Elapsed once, and then no more. */
	unsigned unstable;
	/* wait() failed, or came back too early. */
	unsigned unwaited;
	/* Did not tell that the reader was in a section (not counted as an error). */
	unsigned unaware;
};

/* Runs readers and checkers for so many milliseconds. */
struct conform_result conform_run(const struct conform *conform, unsigned ms);

unsigned conform_errors(const struct conform_result *result);

#endif
