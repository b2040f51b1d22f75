
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include "ngx_http_nixery_module.h"


static ngx_int_t ngx_http_nixery_is(ngx_str_t *rest, size_t at,
    const char *word);


/*
 * Endpoints of the OCI distribution specification 1.1.  A name may have
 * slashes in it and packages called "manifests" or "blobs": what counts is
 * where the last of these words stands.
 */

void
ngx_http_nixery_route(ngx_str_t *uri, ngx_http_nixery_route_t *route)
{
    size_t     at, len;
    ngx_str_t  rest;

    ngx_memzero(route, sizeof(ngx_http_nixery_route_t));

    if (uri->len < 3 || ngx_strncmp(uri->data, "/v2", 3) != 0) {
        return;
    }

    rest.data = uri->data + 3;
    rest.len = uri->len - 3;

    if (rest.len == 0 || (rest.len == 1 && rest.data[0] == '/')) {
        route->kind = NGX_HTTP_NIXERY_BASE;
        return;
    }

    for (at = rest.len; at-- > 0; /* void */) {

        if (ngx_http_nixery_is(&rest, at, "/manifests/")) {
            route->kind = NGX_HTTP_NIXERY_MANIFEST;
            len = sizeof("/manifests/") - 1;

        } else if (ngx_http_nixery_is(&rest, at, "/blobs/")) {
            route->kind = NGX_HTTP_NIXERY_BLOB;
            len = sizeof("/blobs/") - 1;

        } else {
            continue;
        }

        route->name.data = rest.data + (at ? 1 : 0);
        route->name.len = at - (at ? 1 : 0);

        route->reference.data = rest.data + at + len;
        route->reference.len = rest.len - at - len;

        break;
    }

    if (route->kind == NGX_HTTP_NIXERY_BLOB
        && (ngx_http_nixery_is(&route->reference, 0, "uploads/")
            || (route->reference.len == 7
                && ngx_http_nixery_is(&route->reference, 0, "uploads"))))
    {
        route->kind = NGX_HTTP_NIXERY_UPLOAD;
    }
}


static ngx_int_t
ngx_http_nixery_is(ngx_str_t *rest, size_t at, const char *word)
{
    size_t  len;

    len = ngx_strlen(word);

    return rest->len - at >= len
           && ngx_strncmp(rest->data + at, word, len) == 0;
}
