#!/usr/bin/env bash
# Builds the console's page into python/servable/console/assets, or checks that what is there is what its sources make.
# Argument: build, or check. The check goes on where there is no npm, and says so; the build is the same on every machine.
set -euo pipefail
cd "$(dirname "$0")/.."
assets=python/servable/console/assets

if ! command -v npm >/dev/null; then
  echo "==> npm is not installed: the console's page was not ${1/check/compared with its sources}"
  [[ $1 == check ]] && exit 0
  exit 1
fi

install() {
  # What is installed fits as long as the lock has not changed.
  if ! cmp -s console/package-lock.json console/node_modules/.installed-lock; then
    echo "==> npm packages of the console"
    (cd console && npm ci --no-audit --no-fund --no-update-notifier --silent) || return 1
    cp console/package-lock.json console/node_modules/.installed-lock
  fi
}

if ! install; then
  echo "==> the console's npm packages could not be installed: its page was not ${1/check/compared with its sources}"
  [[ $1 == check ]] && exit 0
  exit 1
fi

case $1 in
  build)
    (cd console && npm run --silent build)
    ;;
  check)
    made=$(mktemp -d)
    trap 'rm -rf "$made"' EXIT
    (cd console && npm run --silent check && npm run --silent test -- --reporter=dot && npx vite build --logLevel warn --outDir "$made")
    diff -r "$made" "$assets" || { echo "==> $assets is not what console/ makes: run make console" >&2; exit 1; }
    ;;
esac
