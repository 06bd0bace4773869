/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* liburcu's flavours as sources with a driver (gp_driver.c), and one of each to share. */
#include "base/compiler.h"
#include "base/memory.h"
#include "gp_driver.h"
#include "gp_fork.h"

#include <urcu/flavor.h>

static void urcu_synchronize(struct sheaf_gp_driver *driver)
{
	driver->flavor->update_synchronize_rcu();
}

static bool urcu_read_ongoing(struct sheaf_gp_driver *driver)
{
	return driver->flavor->read_ongoing();
}

static void urcu_offline(struct sheaf_gp_driver *driver)
{
	driver->flavor->thread_offline();
}

static void urcu_online(struct sheaf_gp_driver *driver)
{
	driver->flavor->thread_online();
}

static const struct sheaf_gp_driver_ops urcu_kind = {
	.name = "urcu",
	.synchronize = urcu_synchronize,
	.read_ongoing = urcu_read_ongoing,
	.offline = urcu_offline,
	.online = urcu_online,
};

int sheaf_gp_urcu_init(struct sheaf_gp_urcu *urcu, const struct rcu_flavor_struct *flavor,
		       const struct sheaf_gp_driver_attr *attr)
{
	int err = flavor ? gp_driver_init(&urcu->driver, &urcu_kind, flavor, attr) : -EINVAL;

	if (!err) {
		urcu->gp.read_lock = flavor->read_lock;
		urcu->gp.read_unlock = flavor->read_unlock;
	}
	return err;
}

void sheaf_gp_urcu_fini(struct sheaf_gp_urcu *urcu)
{
	sheaf_gp_driver_fini(&urcu->driver);
}

/* Sources to share, a list; under the lock. */
struct shared {
	struct sheaf_gp_urcu urcu;
	struct shared *next;
	unsigned users;
};

static uint32_t shared_lock;
static struct shared *all_shared;

static struct shared *shared_make(const struct rcu_flavor_struct *flavor)
{
	struct shared *shared = memory_zalloc(CACHE_LINE, sizeof(*shared));

	if (shared && sheaf_gp_urcu_init(&shared->urcu, flavor, NULL)) {
		memory_free(shared);
		shared = NULL;
	}
	if (!shared)
		return NULL;
	shared->next = all_shared;
	all_shared = shared;
	return shared;
}

int sheaf_gp_urcu_get(struct sheaf_gp **gp, const struct rcu_flavor_struct *flavor)
{
	struct shared *shared;

	if (!flavor)
		return -EINVAL;
	gp_lock(&shared_lock);
	for (shared = all_shared; shared && shared->urcu.driver.flavor != flavor;)
		shared = shared->next;
	if (!shared)
		shared = shared_make(flavor);
	if (shared) {
		shared->users++;
		*gp = &shared->urcu.gp;
	}
	gp_unlock(&shared_lock);
	return shared ? 0 : -ENOMEM;
}

void sheaf_gp_urcu_put(struct sheaf_gp *gp)
{
	struct shared **link, *shared = NULL;

	gp_lock(&shared_lock);
	for (link = &all_shared; *link && &(*link)->urcu.gp != gp;)
		link = &(*link)->next;
	if (*link && !--(*link)->users) {
		shared = *link;
		*link = shared->next;
	}
	gp_unlock(&shared_lock);
	if (!shared)
		return;
	/* Out of the lock: it waits for the driver. */
	sheaf_gp_urcu_fini(&shared->urcu);
	memory_free(shared);
}
