#!/bin/sh
# GET lists the entries, after a line that says which instance answers; POST entry=TEXT adds one.
# As a directory's index it answers GET / too; POST goes to /cgi-bin/index.cgi.
set -eu
database=${MONGO_URI#mongodb://}
server=${database%%/*}

# With -e an error in the answer, such as LOADING, is a failure.
ask() {
    timeout 5 redis-cli -e -h "${server%:*}" -p "${server##*:}" "$@"
}

answer() {
    printf 'Status: %s\r\nContent-Type: text/plain\r\n\r\n%s\n' "$1" "$2"
    exit
}

if [ "$REQUEST_METHOD" = POST ]; then
    form=$(head -c "$CONTENT_LENGTH" | tr + ' ')
    entry=$(httpd -d "${form#entry=}")
    length=$(ask rpush "${database#*/}" "$entry") || answer "503 Service Unavailable" "the database does not answer"
    answer "200 OK" "entry $length"
fi
entries=$(ask lrange "${database#*/}" 0 -1) || answer "503 Service Unavailable" "the database does not answer"
address=$(ip -o -4 addr show scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
answer "200 OK" "from $address
$entries"
