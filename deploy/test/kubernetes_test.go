package deploy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// kinds are the API types that the manifests may use; the last three only those of LiteLLM's charts.
var kinds = map[metav1.TypeMeta]func() metav1.Object{
	{APIVersion: "v1", Kind: "Namespace"}:                            func() metav1.Object { return new(corev1.Namespace) },
	{APIVersion: "v1", Kind: "ServiceAccount"}:                       func() metav1.Object { return new(corev1.ServiceAccount) },
	{APIVersion: "v1", Kind: "ConfigMap"}:                            func() metav1.Object { return new(corev1.ConfigMap) },
	{APIVersion: "v1", Kind: "Service"}:                              func() metav1.Object { return new(corev1.Service) },
	{APIVersion: "apps/v1", Kind: "Deployment"}:                      func() metav1.Object { return new(appsv1.Deployment) },
	{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}:  func() metav1.Object { return new(autoscalingv2.HorizontalPodAutoscaler) },
	{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:           func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
	{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}:      func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	{APIVersion: "cert-manager.io/v1", Kind: "Certificate"}:          func() metav1.Object { return new(certmanagerv1.Certificate) },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "ServiceMonitor"}: func() metav1.Object { return new(monitoringv1.ServiceMonitor) },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "PodMonitor"}:     func() metav1.Object { return new(monitoringv1.PodMonitor) },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "PrometheusRule"}: func() metav1.Object { return new(monitoringv1.PrometheusRule) },
	{APIVersion: "batch/v1", Kind: "Job"}:                            func() metav1.Object { return new(batchv1.Job) },
	{APIVersion: "v1", Kind: "Secret"}:                               func() metav1.Object { return new(corev1.Secret) },
	{APIVersion: "v1", Kind: "Pod"}:                                  func() metav1.Object { return new(corev1.Pod) },
}

// objects are decoded manifests.
type objects []metav1.Object

// decode refuses fields that the API types do not have, and kinds twice by one name.
func decode(manifests []byte) (all objects, err error) {
	for document := range bytes.SplitSeq(append([]byte("\n"), manifests...), []byte("\n---")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, document)
		}
		if kind.Kind == "" {
			continue // comments only
		}
		make, ok := kinds[kind]
		if !ok {
			return nil, fmt.Errorf("%s %s is not among the kinds that these tests know", kind.APIVersion, kind.Kind)
		}
		object := make()
		if err := yaml.UnmarshalStrict(document, object); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
		}
		if problems := validation.IsDNS1123Subdomain(object.GetName()); problems != nil {
			return nil, fmt.Errorf("%s: the name %q %v", kind.Kind, object.GetName(), problems)
		}
		all = append(all, object)
	}
	return all, nil
}

// one returns the only object of a type.
func one[T metav1.Object](t *testing.T, all objects) T {
	t.Helper()
	found := every[T](all)
	if len(found) != 1 {
		t.Fatalf("there are %d objects of type %T, not 1", len(found), *new(T))
	}
	return found[0]
}

func every[T metav1.Object](all objects) (found []T) {
	for _, object := range all {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// A sidecarPod is a pod template with the sidecar in it.
type sidecarPod struct {
	corev1.PodTemplateSpec
	sidecar *corev1.Container
	native  bool // an init container that stays
}

// podOf finds the sidecar, and checks what the API types cannot say.
func podOf(t *testing.T, d *appsv1.Deployment) sidecarPod {
	t.Helper()
	pod := sidecarPod{PodTemplateSpec: d.Spec.Template}
	for i, c := range pod.Spec.InitContainers {
		if c.Name == "entra-sidecar" {
			pod.sidecar, pod.native = &pod.Spec.InitContainers[i], true
		}
	}
	for i, c := range pod.Spec.Containers {
		if c.Name == "entra-sidecar" {
			pod.sidecar = &pod.Spec.Containers[i]
		}
	}
	if pod.sidecar == nil {
		t.Fatalf("Deployment %s has no container entra-sidecar", d.Name)
	}
	selects, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || !selects.Matches(labels.Set(pod.Labels)) {
		t.Errorf("Deployment %s does not select its own pods (%v)", d.Name, err)
	}
	if err := errors.Join(pod.problems()...); err != nil {
		t.Errorf("Deployment %s: %v", d.Name, err)
	}
	return pod
}

func (p sidecarPod) problems() (problems []error) {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		problems = append(problems, p.danglingMounts(c)...)
		problems = append(problems, danglingProbes(c)...)
	}
	return append(problems, p.exposure(), p.memory(), p.drain())
}

func (p sidecarPod) danglingMounts(c corev1.Container) (problems []error) {
	for _, mount := range c.VolumeMounts {
		if !slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
			problems = append(problems, fmt.Errorf("%s mounts the volume %s, which does not exist", c.Name, mount.Name))
		}
	}
	return problems
}

func danglingProbes(c corev1.Container) (problems []error) {
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.Type == intstr.Int {
			continue
		}
		name := probe.HTTPGet.Port.StrVal
		if !slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name }) {
			problems = append(problems, fmt.Errorf("%s has a probe of the port %s, which does not exist", c.Name, name))
		}
	}
	for _, port := range c.Ports {
		if wrong := validation.IsValidPortName(port.Name); wrong != nil {
			problems = append(problems, fmt.Errorf("the port %s: %v", port.Name, wrong))
		}
	}
	return problems
}

// exposure checks the security context as the restricted Pod Security Standard
// does, and adds the root file system.
func (p sidecarPod) exposure() error {
	var c corev1.SecurityContext
	if p.sidecar.SecurityContext != nil {
		c = *p.sidecar.SecurityContext
	}
	if pod := p.Spec.SecurityContext; pod != nil && !p.native {
		c.RunAsNonRoot, c.RunAsUser, c.SeccompProfile = pod.RunAsNonRoot, pod.RunAsUser, pod.SeccompProfile
	}
	safe := isTrue(c.RunAsNonRoot) && c.RunAsUser != nil && *c.RunAsUser == 65532 && isTrue(c.ReadOnlyRootFilesystem) &&
		c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation &&
		c.Capabilities != nil && slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) && c.Capabilities.Add == nil &&
		c.SeccompProfile != nil && c.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault
	if !safe {
		return fmt.Errorf("the security context is not as tight as it should be: %+v", c)
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// memory checks that Go's own limit lies a little below the container's.
func (p sidecarPod) memory() error {
	goLimit, err := strconv.Atoi(strings.TrimSuffix(p.env()["GOMEMLIMIT"], "MiB"))
	limit := p.sidecar.Resources.Limits.Memory().Value() >> 20
	if share := float64(goLimit) / float64(limit); err != nil || share < 0.8 || share > 0.9 {
		return fmt.Errorf("GOMEMLIMIT is %q, and the memory limit %d MiB", p.env()["GOMEMLIMIT"], limit)
	}
	if !p.sidecar.Resources.Limits.Cpu().IsZero() {
		return errors.New("a CPU limit throttles, and delays the first byte")
	}
	return nil
}

// drain checks that Kubernetes waits for as long as the sidecar may drain.
func (p sidecarPod) drain() error {
	if grace := p.Spec.TerminationGracePeriodSeconds; grace == nil || *grace < 300+20 {
		return fmt.Errorf("terminationGracePeriodSeconds is %v, and drain_timeout 5 minutes", grace)
	}
	return nil
}

// env holds the variables with a plain value.
func (p sidecarPod) env() map[string]string {
	env := make(map[string]string)
	for _, v := range p.sidecar.Env {
		if v.ValueFrom == nil {
			env[v.Name] = v.Value
		}
	}
	return env
}

// settings has the real binary load the configuration that the pod would see:
// variables, ConfigMaps, and Secrets with contents made up for the purpose.
func (p sidecarPod) settings(t *testing.T, all objects, env ...string) settings {
	t.Helper()
	const prefix = "/etc/entra-sidecar"
	dir := t.TempDir()
	for _, mount := range p.sidecar.VolumeMounts {
		under := filepath.Join(dir, strings.TrimPrefix(mount.MountPath, prefix))
		for name, content := range p.volume(t, mount.Name, all) {
			write(t, filepath.Join(under, name), bytes.ReplaceAll(content, []byte(prefix), []byte(dir)))
		}
	}
	for name, value := range p.env() {
		env = append(env, name+"="+strings.ReplaceAll(value, prefix, dir))
	}
	return configured(t, env...)
}

func (p sidecarPod) volume(t *testing.T, name string, all objects) map[string][]byte {
	t.Helper()
	i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	switch v := p.Spec.Volumes[i]; {
	case v.ConfigMap != nil:
		for _, c := range every[*corev1.ConfigMap](all) {
			if c.Name == v.ConfigMap.Name {
				return contents(c)
			}
		}
		t.Fatalf("there is no ConfigMap %s", v.ConfigMap.Name)
	case v.Secret != nil:
		certificate, key := newCertificate(t)
		return map[string][]byte{"keys": []byte("an-inbound-key-of-tests\n"), "tls.crt": certificate, "tls.key": key}
	}
	return nil
}

func contents(c *corev1.ConfigMap) map[string][]byte {
	files := make(map[string][]byte)
	for name, text := range c.Data {
		files[name] = []byte(text)
	}
	return files
}

func newCertificate(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"gateway"}}
	certificateDER, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificateDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// checkNative is for a sidecar in the pod of the program that uses it.
func (p sidecarPod) checkNative(t *testing.T) {
	t.Helper()
	switch {
	case !p.native, p.sidecar.RestartPolicy == nil, *p.sidecar.RestartPolicy != corev1.ContainerRestartPolicyAlways:
		t.Error("it is no native sidecar: an init container with restartPolicy: Always")
	case p.sidecar.StartupProbe.HTTPGet.Path != "/readyz":
		t.Error("the startup probe does not ask /readyz, so LiteLLM would start without a token")
	case p.sidecar.LivenessProbe.HTTPGet.Path != "/livez":
		t.Error("the liveness probe does not ask /livez")
	case p.sidecar.ReadinessProbe != nil:
		t.Error("a readiness probe would take LiteLLM's other providers out of service as well")
	}
	if p.Labels["azure.workload.identity/use"] != "true" {
		t.Error("the label of the workload identity webhook is missing")
	}
}

// checkSkipped checks that the webhook gives no token to the other containers.
func (p sidecarPod) checkSkipped(t *testing.T) {
	t.Helper()
	skipped := strings.Split(p.Annotations["azure.workload.identity/skip-containers"], ";")
	for _, c := range p.Spec.Containers {
		if !slices.Contains(skipped, c.Name) {
			t.Errorf("the webhook would give the federated token to the container %s", c.Name)
		}
	}
}

func TestDecodeRefusesWhatKubernetesDoesNotKnow(t *testing.T) {
	for name, manifest := range map[string]string{
		"a misspelt field":   "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: []}",
		"a field at the top": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nreplicas: 1",
		"a wrong type":       "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: two}",
		"a key twice":        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nmetadata: {name: b}",
		"an unknown kind":    "apiVersion: v1\nkind: Servant\nmetadata: {name: a}",
		"a bad name":         "apiVersion: v1\nkind: Service\nmetadata: {name: A_}",
	} {
		if _, err := decode([]byte(manifest)); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}
