/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What one cache has set aside is given back to another one. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct sheaf_cache *other;
	struct sheaf *reserve;

	planted_begin(argc, argv);
	other = new_cache("others");
	reserve = sheaf_cache_prefill(cache, 4, 0);
	must(reserve != NULL, "no sheaf");
	sheaf_cache_free(cache, sheaf_cache_alloc_from(cache, reserve));
	sheaf_cache_return(fixed ? cache : other, reserve);
	sheaf_cache_shrink(other);
	must(sheaf_cache_destroy(other, NULL) == 0, "the other cache has live items");
	return planted_end();
}
