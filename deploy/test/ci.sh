#!/usr/bin/env bash
# Tests everything under deploy/, the Dockerfile and .github, from a clean clone.
# Needs Go and root; installs the rest from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")"
export CI=true

missing=()
for package in buildah busybox-static prometheus; do
	dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	sudo=
	[ "$(id -u)" -eq 0 ] || sudo=sudo
	$sudo apt-get update -qq
	# Prometheus is started by the tests, on a port of their own.
	DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "not gofmt-clean: $unformatted"; exit 1; }
go mod tidy -diff
go vet ./...
go test -timeout 40m ./...
