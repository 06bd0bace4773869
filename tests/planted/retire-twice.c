/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Two places think that they have taken an item out, and both retire it. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct item *item;

	planted_begin(argc, argv);
	item = new_item(1);
	sheaf_cache_free_rcu(cache, item);
	if (!fixed)
		sheaf_cache_free_rcu(cache, item);
	let_ripen();
	return planted_end();
}
