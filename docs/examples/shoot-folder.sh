#!/bin/sh
# Uploads the photos of a folder, makes a picture of each, waits, and fetches them as one ZIP.
#
#   I2I_URL=https://i2i.example.com I2I_TOKEN_FILE=~/.i2i-token ./shoot-folder.sh photos results.zip
#
# The token comes from `flask tokens create`. Needs curl and Python 3. Spends money: a picture a photo.
# I2I_SECONDS is how often it looks whether the pictures are there, 5 by default.
set -eu

folder=$1
zip=$2
workflow=${3:-mannequin-to-human-v1}
url=${I2I_URL:?is not set}
token_file=${I2I_TOKEN_FILE:?is not set}

# curl reads the header with the token from a file, so that no list of processes shows it.
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
{ printf 'Authorization: Bearer '; cat "$token_file"; } >"$headers"

ask() { # method path options...
  method=$1 path=$2
  shift 2
  curl --silent --show-error --fail-with-body --request "$method" --header "@$headers" "$@" "$url$path"
}

pick() { # expression over the JSON `d` on standard input
  python3 -c "import json, sys; d = json.load(sys.stdin); print($1)"
}

# The same photo again is the same image, so a run that broke off can simply be run again.
images=''
for photo in "$folder"/*; do
  # Between quotes a comma or a semicolon in the name is nothing but that.
  quoted=$(printf '%s' "$photo" | sed 's/[\\"]/\\&/g')
  id=$(ask POST /images --header 'Accept: application/json' --form "images=@\"$quoted\"" |
    pick "d['images'][0]['id']")
  images="$images --form image=$id"
  echo "uploaded $photo"
done

# The key makes a repeated request find the same batch instead of paying for a second one.
key=$(printf '%s' "$images $workflow" | cksum | tr ' ' '-')-$(date +%Y%m%d)
# shellcheck disable=SC2086 - the ids are words of their own
batch=$(ask POST /batches --header 'Accept: application/json' $images \
  --form "workflow=$workflow" --form "client_key=$key" | pick "d['id']")
echo "making $url/batches/$batch"

# An answer that does not come ends the run here, rather than with half of the pictures.
status=working
while [ "$status" = working ]; do
  sleep "${I2I_SECONDS:-5}"
  status=$(ask GET "/batches/$batch" --header 'Accept: application/json' | pick "d['status']")
done
echo "the batch is $status"
ask GET "/batches/$batch.zip" --output "$zip"
echo "wrote $zip"
