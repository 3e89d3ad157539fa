package deploy

import (
	"bytes"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const (
	component = root + "/deploy/kustomize/component"
	example   = root + "/deploy/kustomize/example"
)

func kustomize(t *testing.T, fs filesys.FileSystem, dir string) objects {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	all, err := decode(manifests)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTheExampleIsAKeylessLiteLLM(t *testing.T) {
	all := kustomize(t, filesys.MakeFsOnDisk(), example)
	pod := podOf(t, one[*appsv1.Deployment](t, all))
	pod.checkNative(t)
	pod.checkSkipped(t)

	s := pod.settings(t, all)
	if s.Listen != "127.0.0.1:4001" || s.Admin.Listen != ":4002" || len(s.Routes) != 1 {
		t.Errorf("the sidecar listens at %s and %s, with %d routes", s.Listen, s.Admin.Listen, len(s.Routes))
	}
	account := one[*corev1.ServiceAccount](t, all)
	if account.Annotations["azure.workload.identity/client-id"] == "" || pod.Spec.ServiceAccountName != account.Name {
		t.Error("the pod's service account has no client id")
	}
	if pod.sidecar.Image == "entra-sidecar" {
		t.Error("the image has not been replaced by the user's")
	}
}

// Files outside the kustomization cannot be named in it, hence the copies.
func TestTheExampleRunsTheSample(t *testing.T) {
	for _, name := range []string{"sidecar.yaml", "litellm.yaml"} {
		if !bytes.Equal(read(t, example+"/"+name), read(t, root+"/deploy/samples/chat/"+name)) {
			t.Errorf("%s is not the one of deploy/samples/chat, which test/litellm runs: copy it", name)
		}
	}
}

// The component must fit into Deployments that it knows nothing about.
func TestTheComponentLeavesAStrangersDeploymentAlone(t *testing.T) {
	all := kustomize(t, inMemory(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: stranger}
spec:
  selector: {matchLabels: {app: stranger}}
  template:
    metadata: {labels: {app: stranger}, annotations: {kept: "yes"}}
    spec:
      initContainers:
      - {name: migrate, image: migrate}
      containers:
      - {name: main, image: main, volumeMounts: [{name: data, mountPath: /data}]}
      volumes:
      - {name: data, emptyDir: {}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cache, labels: {entra-sidecar: disabled}}
spec:
  selector: {matchLabels: {app: cache}}
  template:
    metadata: {labels: {app: cache}}
    spec: {containers: [{name: cache, image: cache}]}
`), "/user")
	deployments := every[*appsv1.Deployment](all)
	pod := podOf(t, deployments[0])
	pod.checkNative(t)
	if pod.Annotations["kept"] != "yes" || len(pod.Spec.Volumes) != 2 || len(pod.Spec.InitContainers) != 2 {
		t.Errorf("something was lost: %+v", pod.Spec)
	}
	if pod.Spec.InitContainers[0].Name != "entra-sidecar" {
		t.Error("the sidecar starts after the other init containers, which may need it")
	}
	if len(deployments[1].Spec.Template.Spec.InitContainers) != 0 {
		t.Error("the Deployment that refuses the sidecar got it")
	}
}

func inMemory(t *testing.T, manifests string) filesys.FileSystem {
	t.Helper()
	fs := filesys.MakeFsInMemory()
	for name, content := range map[string]string{
		"/user/resources.yaml":          strings.TrimSpace(manifests),
		"/user/sidecar.yaml":            "routes: [{upstream: https://x.openai.azure.com}]",
		"/user/kustomization.yaml":      "resources: [resources.yaml]\ncomponents: [../component]\nconfigMapGenerator: [{name: entra-sidecar, files: [sidecar.yaml]}]",
		"/component/kustomization.yaml": string(read(t, component+"/kustomization.yaml")),
		"/component/sidecar.yaml":       string(read(t, component+"/sidecar.yaml")),
	} {
		if err := fs.WriteFile(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}
