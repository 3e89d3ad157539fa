# Three images from one file:
#
#   docker build -t entra-sidecar .                            the sidecar, from scratch
#   docker build -t entra-sidecar:cli --target cli .           with the Azure CLI, for `az login` on a laptop
#   docker build -t azure-emulator --target emulator .         the Azure of the demo
#
# The base images are arguments, so that a mirror or a digest can take their place.
ARG GO_IMAGE=docker.io/library/golang:1.26
ARG AZURE_CLI_IMAGE=mcr.microsoft.com/azure-cli:latest

# The build runs on the builder's own architecture and compiles for the
# target's: Go needs no emulation for that.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS source
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# -trimpath and -buildvcs=false leave nothing of the builder in the binary: the
# same source and Go version give the same bytes anywhere. Without cgo the
# resolver is Go's own, so that the image needs no libc.
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"

FROM source AS build
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=devel
ARG REVISION=
RUN app=entra-sidecar/cmd/internal/app \
 && GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /out/entra-sidecar \
      -ldflags="-s -w -X $app.version=$VERSION -X $app.revision=$REVISION" ./cmd/entra-sidecar \
 && mkdir -p /out/run/entra-sidecar

FROM source AS build-emulator
ARG TARGETOS=linux
ARG TARGETARCH
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -ldflags="-s -w" -o /out/azure-emulator ./cmd/azure-emulator \
 && mkdir -p /out/run/azure-emulator

FROM scratch AS emulator
LABEL org.opencontainers.image.title="azure-emulator" \
      org.opencontainers.image.description="The part of Azure that a keyless client of Azure OpenAI meets, for demonstrations and tests" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-emulator /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build-emulator --chown=65532:65532 /out/run/ /run/
# Go's os.MkdirTemp, which the emulator calls, takes the directory from here.
ENV TMPDIR=/run/azure-emulator
COPY --from=build-emulator /out/azure-emulator /azure-emulator
USER 65532:65532
ENTRYPOINT ["/azure-emulator"]

FROM ${AZURE_CLI_IMAGE} AS cli
ARG VERSION=devel
ARG REVISION=
LABEL org.opencontainers.image.title="entra-sidecar with the Azure CLI" \
      org.opencontainers.image.description="For local development: uses the az login that is mounted at /azure" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/entra-sidecar /entra-sidecar
# The CLI rewrites its own files there, so run it as the user who owns them.
ENV AZURE_CONFIG_DIR=/azure HOME=/tmp
EXPOSE 4001 4002
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/entra-sidecar", "healthcheck"]
USER 65532:65532
ENTRYPOINT ["/entra-sidecar"]

FROM scratch AS sidecar
ARG VERSION=devel
ARG REVISION=
LABEL org.opencontainers.image.title="entra-sidecar" \
      org.opencontainers.image.description="Keyless Azure OpenAI for LiteLLM: puts Entra ID tokens in the place of keys" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# Where tls.ca_bundle_file goes in the samples. A volume mounted here inherits the owner.
COPY --from=build --chown=65532:65532 /out/run/ /run/
COPY --from=build /out/entra-sidecar /entra-sidecar
# A number, because Kubernetes cannot tell that a name is not root.
USER 65532:65532
# 4001 the proxy, 4002 admin (/livez /readyz /metrics)
EXPOSE 4001 4002
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/entra-sidecar", "healthcheck"]
ENTRYPOINT ["/entra-sidecar"]
