/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* For sources with a driver inside the library. */
#ifndef GP_DRIVER_H
#define GP_DRIVER_H

#include <sheaf/gp.h>

/* sheaf_gp_driver_init() over a flavour of liburcu, whose fork hooks are minded; read_lock and
 * read_unlock are the caller's to set. */
int gp_driver_init(struct sheaf_gp_driver *driver, const struct sheaf_gp_driver_ops *kind,
		   const struct rcu_flavor_struct *flavor, const struct sheaf_gp_driver_attr *attr);

#endif
