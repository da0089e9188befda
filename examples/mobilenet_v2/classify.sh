#!/bin/sh
# Asks a served picture model what a photo shows, over REST with curl.
#
#   examples/mobilenet_v2/classify.sh PHOTO [HOST:PORT] [MODEL]     defaults: localhost:8501 mobilenet_v2
#
# Prints the server's answer unchanged. Exit status: 0 for an answer, 1 for an error, 2 for wrong usage.
# The photo is sent through pipes, never through the argument list, so its size does not matter.
set -eu

if [ $# -lt 1 ] || [ $# -gt 3 ]; then
    echo "usage: $0 PHOTO [HOST:PORT] [MODEL]" >&2
    exit 2
fi
photo=$1
server=${2:-localhost:8501}
model=${3:-mobilenet_v2}
if [ ! -f "$photo" ] || [ ! -r "$photo" ]; then
    echo "$0: cannot read the photo $photo" >&2
    exit 2
fi

reply=$(mktemp)
trap 'rm -f "$reply"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

request() {
    printf '{"inputs": [{"b64": "'
    base64 < "$photo" | tr -d '\n'
    printf '"}]}'
}

status=$(request | curl --silent --show-error --data-binary @- --output "$reply" --write-out '%{http_code}' \
    --header 'Content-Type: application/json' "http://$server/v1/models/$model:predict") || {
    echo "$0: no answer from http://$server (is the server running there?)" >&2
    exit 1
}
cat "$reply"
echo
if [ "$status" != 200 ]; then
    echo "$0: the server answered with HTTP status $status" >&2
    exit 1
fi
