# Sourced by the scripts that test with packages of their own.

# Makes in folder $2 an environment that also has the packages of the project's environment, $1.
environment_over() {
  "$1/bin/python" -m venv "$2"
  site_packages "$1" >"$(site_packages "$2")/project.pth"
  "$2/bin/python" -m pip install --quiet --upgrade pip
}

# Makes it with the packages that $3 pins, unless it has them; $4 says what takes so long.
environment_with() {
  if ! cmp --silent "$3" "$2/.done"; then
    echo "==> $4"
    environment_over "$1" "$2"
    "$2/bin/python" -m pip install --quiet -r "$3"
    cp "$3" "$2/.done"
  fi
}

site_packages() {
  "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}
