#!/usr/bin/env bash
# Checks the dependencies, Rust's and Python's: known vulnerabilities, licences, sources.
#
#     scripts/audit.sh VENV
#
# Exit status: 0 if nothing was found, 1 if something was. What could not be checked, as its data or its program cannot be
# had, is said and is no finding. `cargo install --locked cargo-deny` (0.18 or newer) and `pip install pip-audit` get the
# programs; CARGO_DENY and PIP_AUDIT name them elsewhere, DENY_CONFIG another configuration than deny.toml.
set -uo pipefail

venv=$1
deny=${CARGO_DENY:-cargo-deny}
audit=${PIP_AUDIT:-pip-audit}
config=${DENY_CONFIG:-deny.toml}
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
        local missing
        missing=$(grep -c "could not be audited" "$said")
        if [ "$missing" -gt 0 ]; then
            unchecked+=("$what: the service of vulnerabilities does not know $missing packages")
        else
            tail -n 3 "$said"
        fi
    elif [ -n "$pattern" ] && grep -qiE "$pattern" "$said"; then
        unchecked+=("$what: $(grep -iE "$pattern" "$said" | head -n 1 | cut -c 1-160)")
    else
        cat "$said"
        found=1
    fi
}

no_network='failed to (fetch|open|acquire|clone|load)|could not resolve|connection|network|timed? ?out|proxy|unreachable'
if command -v "$deny" >/dev/null; then
    check "Rust: licences, sources, versions" "" "$deny" --locked check --config "$config" bans licenses sources
    check "Rust: advisories" "$no_network" "$deny" --locked check --config "$config" advisories
else
    unchecked+=("Rust: cargo-deny is not installed (cargo install --locked cargo-deny)")
fi
if command -v "$audit" >/dev/null; then
    for file in cpu engines int8 dev; do
        check "Python: requirements/$file.txt" "$no_network|max retries" \
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
