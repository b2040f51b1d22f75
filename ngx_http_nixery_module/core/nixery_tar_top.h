
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_TAR_TOP_H_INCLUDED_
#define _NIXERY_TAR_TOP_H_INCLUDED_


#include "nixery_tar_writer.h"


/*
 * The top layer: what is in tar->contents stands at the root of the image, and
 * beside it what programs expect of any system: /tmp, /etc/passwd and
 * /etc/group, and /usr/bin/env where the image has env.  What the contents have
 * of these themselves is left as it is.
 */
int nixery_tar_top(const nixery_tar_t *tar, nixery_tar_writer_t *w,
    nixery_error_t *err);


#endif /* _NIXERY_TAR_TOP_H_INCLUDED_ */
