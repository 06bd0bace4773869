/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/gp_ck.h
 * Concurrency Kit's epochs as a grace-period source, for programs without liburcu.
 *
 * An optional header: the library does not use Concurrency Kit's epochs itself. A program that
 * includes it links libck. C only, as Concurrency Kit's headers are.
 *
 * fork(): a record that another thread had active stays active in the child, and its grace
 * periods do not end. Fork outside of sections, or exec.
 */
#ifndef SHEAF_GP_CK_H
#define SHEAF_GP_CK_H

#include <ck_epoch.h>
#include <sched.h>
#include <sheaf/gp.h>
#include <threads.h>

/** How a thread reads: with a record of its own, which only the program knows how to find. */
struct sheaf_gp_ck_readers {
	/** ck_epoch_begin() and ck_epoch_end() of the calling thread's record. */
	void (*lock)(void);
	void (*unlock)(void);
	/** Is that record active? NULL if the program cannot tell: then waiting inside a section is
	 *  not told, but hangs. */
	bool (*ongoing)(void);
};

/** A ck_epoch_t as a source. In the caller's memory; fields are private. */
struct sheaf_gp_ck {
	union {
		struct sheaf_gp gp;
		struct sheaf_gp_driver driver;
	};
	ck_epoch_t *epoch;
	const struct sheaf_gp_ck_readers *readers;
};

/** Private to the library: between two looks at a record that is active, whose thread may need our
 *  processor. */
static inline void sheaf_gp_ck_pause(ck_epoch_t *epoch, ck_epoch_record_t *record, void *turns)
{
	struct timespec nap = {0, 50000};

	(void)epoch;
	(void)record;
	if ((*(unsigned *)turns)++ < 64)
		sched_yield();
	else
		thrd_sleep(&nap, NULL);
}

/** Private to the library: waits for all records. */
static inline void sheaf_gp_ck_synchronize(struct sheaf_gp_driver *driver)
{
	unsigned turns = 0;

	ck_epoch_synchronize_wait(((struct sheaf_gp_ck *)(void *)driver)->epoch, sheaf_gp_ck_pause,
				  &turns);
}

/** Private to the library: asks the program. */
static inline bool sheaf_gp_ck_read_ongoing(struct sheaf_gp_driver *driver)
{
	const struct sheaf_gp_ck_readers *readers = ((struct sheaf_gp_ck *)(void *)driver)->readers;

	return readers->ongoing && readers->ongoing();
}

/**
 * Make a source over an epoch, with a driver. Objects retired to it need no ck_epoch_entry_t.
 *
 * @param ck memory of the caller; pass &ck->gp to whoever wants a source; end it with
 *	sheaf_gp_driver_fini(&ck->driver)
 * @param epoch initialized; must outlive the source, as must its records
 * @param readers must outlive the source
 * @param attr pacing; NULL means defaults; not kept
 *
 * Context, Ordering, Progress, Return: as sheaf_gp_driver_init().
 */
static inline int sheaf_gp_ck_init(struct sheaf_gp_ck *ck, ck_epoch_t *epoch,
				   const struct sheaf_gp_ck_readers *readers,
				   const struct sheaf_gp_driver_attr *attr)
{
	static const struct sheaf_gp_driver_ops kind = {
		.name = "ck",
		.synchronize = sheaf_gp_ck_synchronize,
		.read_ongoing = sheaf_gp_ck_read_ongoing,
	};
	int err = sheaf_gp_driver_init(&ck->driver, &kind, attr, readers->lock, readers->unlock);

	ck->epoch = epoch;
	ck->readers = readers;
	return err;
}

#endif
