#!/usr/bin/env bash
# Has a Chromium and axe ready for tests/browser in build/browser: of npm packages, unpacked, without root. What is there
# stays. Where it cannot be had, says why and what to do; the tests are skipped then.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=build/browser

missing() {
  echo "==> no browser tests: $1. Or install Chromium (apt-get install chromium), or name one: SERVABLE_CHROMIUM=PATH"
  exit 0
}

cmp -s tests/browser/package-lock.json "$folder/.installed-lock" && exit 0
command -v npm >/dev/null || missing "npm is not installed"
echo "==> Chromium for the browser tests"
mkdir -p "$folder"
cp tests/browser/package.json tests/browser/package-lock.json "$folder/"
(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --silent 2>/dev/null) \
  || missing "its npm packages could not be installed"
if [[ $(uname -m) == x86_64 ]]; then
  rm -rf "$folder/chromium" && mkdir -p "$folder/chromium"
  node tests/browser/unpack.mjs "$folder/node_modules/@sparticuz/chromium/bin" "$folder/chromium" || missing "it could not be unpacked"
fi
cp tests/browser/package-lock.json "$folder/.installed-lock"
