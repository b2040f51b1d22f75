
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_FUZZ_H_INCLUDED_
#define _NIXERY_FUZZ_H_INCLUDED_


#include <stdint.h>
#include <stdlib.h>
#include "nixery_error.h"
#include "nixery_text.h"


/* libFuzzer calls this with one input after the other. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static inline void
fuzz_check(int ok)
{
    if (!ok) {
        abort();
    }
}


/* What is shown to a person: UTF-8 without control characters but these. */

static inline void
fuzz_check_text(const char *text, const char *controls)
{
    size_t       n;
    const char  *end;

    end = text + strlen(text);

    while (text != end) {
        n = 1;

        if ((unsigned char) *text >= 0x80) {
            n = nixery_text_utf8(text, end);
            fuzz_check(n != 0);

        } else if ((unsigned char) *text < 0x20 || *text == 0x7f) {
            fuzz_check(strchr(controls, *text) != NULL);
        }

        text += n;
    }
}


/* An error is set if and only if there is one; it is released. */

static inline void
fuzz_check_error(int rc, nixery_error_t *err)
{
    if (rc == NIXERY_OK) {
        fuzz_check(err->kind == NIXERY_ERROR_NONE && err->message == NULL);

    } else {
        fuzz_check(rc == NIXERY_ERROR && err->kind != NIXERY_ERROR_NONE
                   && err->message != NULL);
        fuzz_check_text(err->message, "");
    }

    nixery_error_free(err);
}


#endif /* _NIXERY_FUZZ_H_INCLUDED_ */
