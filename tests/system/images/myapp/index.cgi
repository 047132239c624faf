#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
ip -o -4 addr show scope global | awk '{ sub("/.*", "", $4); print $4 }'
