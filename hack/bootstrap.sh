#!/usr/bin/env bash
# Makes sure that uv is there: from the PATH, else from a virtual environment of its own. Prints its path.
set -euo pipefail

UV_VERSION=0.13.8
cache="${XDG_CACHE_HOME:-$HOME/.cache}/onceserve"
home="$cache/uv-$UV_VERSION"

say() { echo "onceserve: $*" >&2; }

if command -v uv >/dev/null; then
  command -v uv
  exit
fi
if [ ! -x "$home/bin/uv" ]; then
  # Debian splits the module that makes virtual environments from Python itself.
  if ! python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      say "installing python3 and python3-venv"
      { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates; } >&2
    else
      say "needs uv, or Python 3.11 or later with its venv module (Debian: apt-get install python3-venv)"
      exit 1
    fi
  fi
  say "installing uv $UV_VERSION into $home"
  rm -rf "$home"
  python3 -m venv "$home"
  "$home/bin/pip" install --quiet --disable-pip-version-check "uv==$UV_VERSION" >&2
fi
echo "$home/bin/uv"
