#!/usr/bin/env bash
# Checks the dependencies, Rust's and Python's: known vulnerabilities, licences, sources.
#
#     scripts/audit.sh VENV
#
# Exit status: 0 if nothing was found, 1 if something was. What could not be checked, as its data or its program cannot be
# had, is said and is no finding. `cargo install --locked cargo-deny` and `pip install pip-audit` get the programs;
# CARGO_DENY and PIP_AUDIT name them elsewhere.
set -uo pipefail

venv=$1
deny=${CARGO_DENY:-cargo-deny}
audit=${PIP_AUDIT:-pip-audit}
found=0
unchecked=()
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# check WHAT PATTERN COMMAND…: runs a check. A failure whose output matches PATTERN says that there was no data.
check() {
    local what=$1 pattern=$2
    shift 2
    echo "==> $what"
    if "$@" >"$said" 2>&1; then
        tail -n 3 "$said"
    elif grep -qiE "$pattern" "$said"; then
        unchecked+=("$what: $(grep -iE "$pattern" "$said" | head -n 1 | cut -c 1-160)")
    else
        cat "$said"
        found=1
    fi
}

no_network='failed to (fetch|open|acquire|clone|load)|could not resolve|connection|network|timed? ?out|proxy|dns|unreachable'
if command -v "$deny" >/dev/null; then
    check "Rust: licences, sources, versions" '^$' "$deny" --locked check bans licenses sources
    check "Rust: advisories" "$no_network" "$deny" --locked check advisories
else
    unchecked+=("Rust: cargo-deny is not installed (cargo install --locked cargo-deny)")
fi
if command -v "$audit" >/dev/null; then
    for file in cpu engines int8 dev; do
        check "Python: requirements/$file.txt" "$no_network|max retries|service" \
            "$audit" --vulnerability-service pypi --disable-pip --no-deps -r "requirements/$file.txt"
    done
else
    unchecked+=("Python: pip-audit is not installed ($venv/bin/python -m pip install pip-audit)")
fi

for one in "${unchecked[@]}"; do
    echo "NOT CHECKED: $one"
done
if [ "$found" = 1 ]; then
    echo "found: see above"
elif [ ${#unchecked[@]} = 0 ]; then
    echo "nothing found"
else
    echo "nothing found in what was checked"
fi
exit "$found"
