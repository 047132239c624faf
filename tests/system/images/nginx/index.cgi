#!/bin/sh
# A name is looked up for every request, so scaling is seen. (Debian's busybox wget cannot POST.)
set -eu
length=${CONTENT_LENGTH:-0}
{
    printf '%s %s HTTP/1.0\r\nContent-Length: %s\r\n\r\n' "$REQUEST_METHOD" "$REQUEST_URI" "$length"
    head -c "$length"
} | nc -w 10 nodeapp 3000 || printf 'Status: 502 Bad Gateway\r\n\r\nthe application does not answer\n'
