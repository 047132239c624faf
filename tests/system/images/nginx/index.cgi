#!/bin/sh
# A name is looked up for every request, so scaling is seen. By curl: Debian's static busybox has
# no resolver that works in wget and nc.
set -eu
set -- --silent --include --http1.0 --max-time 10
if [ "$REQUEST_METHOD" = POST ]; then
    set -- "$@" --data-binary @-
fi
head -c "${CONTENT_LENGTH:-0}" | curl "$@" "http://nodeapp:3000$REQUEST_URI" ||
    printf 'Status: 502 Bad Gateway\r\n\r\nthe application does not answer\n'
