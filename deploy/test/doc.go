// Package deploy tests what users apply: the image, the manifests, the charts,
// the compose files, the dashboard, the alert rules and the workflows. Nothing
// is compared with a copy of itself: manifests are decoded into Kubernetes's
// own types, their configuration is loaded by the real binary, and every query
// runs in a real Prometheus on the metrics of a real sidecar.
//
// It is a module of its own, so that the product does not depend on Helm.
//
// Two tools come from Debian's packages: buildah (with busybox-static) for the
// images, prometheus for the queries. Without them those tests are skipped, and
// with CI=true they fail.
package deploy
