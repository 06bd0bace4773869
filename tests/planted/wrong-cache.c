/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* An item of one cache is freed to another one. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct sheaf_cache *other;
	struct item *item;

	planted_begin(argc, argv);
	other = new_cache("others");
	item = new_item(1);
	sheaf_cache_free(fixed ? cache : other, item);
	sheaf_cache_shrink(other);
	must(sheaf_cache_destroy(other, NULL) == 0, "the other cache has live items");
	return planted_end();
}
