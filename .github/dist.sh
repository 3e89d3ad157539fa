#!/usr/bin/env bash
# dist.sh VERSION REVISION: the files of a release in dist/. The same commit and
# Go version give the same binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 revision=$2
app=entra-sidecar/cmd/internal/app
rm -rf dist && mkdir dist

for platform in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do
	os=${platform%/*} arch=${platform#*/}
	name=entra-sidecar_${version}_${os}_${arch}
	[ "$os" != windows ] || name+=.exe
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X $app.version=$version -X $app.revision=$revision" -o "dist/$name" ./cmd/entra-sidecar
	# From the binary itself: what was linked, not what go.mod would allow.
	go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 \
		bin -json -noserial -version "$version" -output "dist/$name.cdx.json" "dist/$name"
done
(cd dist && sha256sum -- * > checksums.txt)
