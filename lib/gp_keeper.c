/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A driver without grace periods. */
#include "gp_keeper.h"

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/memory.h"
#include "gp_fork.h"

static void no_period(struct sheaf_gp_driver *driver)
{
	(void)driver;
}

static bool no_section(struct sheaf_gp_driver *driver)
{
	(void)driver;
	return false;
}

static void nothing(void)
{
}

static const struct sheaf_gp_driver_ops keeper_kind = {
	.name = "keeper",
	.synchronize = no_period,
	.read_ongoing = no_section,
};

static uint32_t lock;
static struct sheaf_gp_driver *keeper;
static unsigned users;

/* NULL if there is no memory. */
static struct sheaf_gp_driver *make(void)
{
	struct sheaf_gp_driver *driver = memory_zalloc(CACHE_LINE, sizeof(*driver));

	if (driver && sheaf_gp_driver_init(driver, &keeper_kind, NULL, nothing, nothing)) {
		memory_free(driver);
		driver = NULL;
	}
	return driver;
}

struct sheaf_gp *gp_keeper_get(void)
{
	struct sheaf_gp *gp = NULL;

	gp_lock(&lock);
	/* One store when it is whole: should we vanish in a fork here, the child has all of it or none. */
	if (!keeper)
		store_release(&keeper, make());
	if (keeper) {
		users++;
		gp = &keeper->gp;
	}
	gp_unlock(&lock);
	return gp;
}

void gp_keeper_put(void)
{
	struct sheaf_gp_driver *last = NULL;

	gp_lock(&lock);
	if (!--users) {
		last = keeper;
		keeper = NULL;
	}
	gp_unlock(&lock);
	if (!last)
		return;
	/* Out of the lock: it waits for the thread. */
	sheaf_gp_driver_fini(last);
	memory_free(last);
}
