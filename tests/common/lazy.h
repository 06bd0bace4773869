/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A grace-period source that moves on when somebody waits, and only then: nothing is ripe by
 * chance. Nobody is in a read section by it; any number of threads may wait. */
#ifndef TESTS_LAZY_H
#define TESTS_LAZY_H

#include <sheaf/gp.h>

struct lazy {
	struct sheaf_gp gp;
	uint64_t now;
	/* Called as a wait begins, if set: what others do during a period. */
	int (*meanwhile)(void);
};

/* The beginning, also of one that was used; nobody else uses it. */
void lazy_begin(struct lazy *lazy);

#endif
