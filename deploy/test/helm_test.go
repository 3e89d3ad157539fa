package deploy

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const (
	chart         = root + "/deploy/helm/entra-sidecar"
	gatewayValues = root + "/deploy/helm/gateway.yaml"
)

// A release is a rendered chart.
type release struct {
	objects
	notes string
}

// helm renders a chart with a values file and further values, as `helm install` does.
func helm(t *testing.T, dir, kubernetes string, valuesFiles ...string) (release, error) {
	t.Helper()
	values := map[string]any{}
	for _, file := range valuesFiles {
		more := map[string]any{}
		if err := yaml.Unmarshal([]byte(file), &more); err != nil {
			t.Fatal(err)
		}
		values = loader.MergeMaps(values, more)
	}
	c, err := loader.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	version, err := common.ParseKubeVersion(kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	options := common.ReleaseOptions{Name: "entra-sidecar", Namespace: "litellm", IsInstall: true, Revision: 1}
	rendering, err := util.ToRenderValues(c, values, options, capabilities)
	if err != nil {
		return release{}, err
	}
	files, err := engine.Render(c, rendering)
	if err != nil {
		return release{}, err
	}
	return releaseOf(files)
}

func releaseOf(files map[string]string) (r release, err error) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch filepath.Ext(name) {
		case ".txt":
			r.notes += files[name]
		case ".yaml":
			more, err := decode([]byte(files[name]))
			if err != nil {
				return r, fmt.Errorf("%s: %w", name, err)
			}
			r.objects = append(r.objects, more...)
		}
	}
	return r, nil
}

// gateway renders our chart with the values that the documentation shows, and others on top.
func gateway(t *testing.T, values string) (release, error) {
	t.Helper()
	return helm(t, chart, "v1.34.0", string(read(t, gatewayValues)), values)
}

func mustGateway(t *testing.T, values string) release {
	t.Helper()
	r, err := gateway(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheChartHasNoLint(t *testing.T) {
	values := map[string]any{}
	if err := yaml.Unmarshal(read(t, gatewayValues), &values); err != nil {
		t.Fatal(err)
	}
	for _, message := range lint.RunAll(chart, values, "litellm").Messages {
		if !strings.Contains(message.Error(), "icon is recommended") {
			t.Error(message)
		}
	}
}

func TestTheGatewayAsksForKeysOverTLS(t *testing.T) {
	r := mustGateway(t, "")
	pod := podOf(t, one[*appsv1.Deployment](t, r.objects))
	s := pod.settings(t, r.objects)
	if s.Listen != "127.0.0.1:4001" || s.TLS.Listen != ":4443" || s.TLS.CertFile == "" || s.TLS.KeyFile == "" {
		t.Errorf("it listens at %s without TLS, and at %s with", s.Listen, s.TLS.Listen)
	}
	if s.Inbound.KeysFile == "" {
		t.Error("it asks for no key")
	}
	if s.DrainTimeout != "5m" {
		t.Errorf("it drains for %s", s.DrainTimeout)
	}
	if len(s.Routes) != 2 {
		t.Errorf("it has %d routes", len(s.Routes))
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440) {
			t.Errorf("everybody in the container may read the Secret %s", v.Secret.SecretName)
		}
	}
	if pod.Spec.SecurityContext.FSGroup == nil {
		t.Error("without fsGroup a user other than root cannot read Secrets of mode 0440")
	}
}

func TestTheGatewaysPartsFitTogether(t *testing.T) {
	r := mustGateway(t, "{serviceMonitor: {enabled: true}}")
	deployment := one[*appsv1.Deployment](t, r.objects)
	pod := podOf(t, deployment)
	ports := map[string]int32{}
	for _, p := range pod.sidecar.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, s := range every[*corev1.Service](r.objects) {
		for key, value := range s.Spec.Selector {
			if pod.Labels[key] != value {
				t.Errorf("Service %s selects %s=%s, which the pods do not have", s.Name, key, value)
			}
		}
		for _, p := range s.Spec.Ports {
			if ports[p.TargetPort.StrVal] == 0 {
				t.Errorf("Service %s leads to the port %s, which the pods do not have", s.Name, p.TargetPort.String())
			}
		}
	}
	hpa := one[*autoscalingv2.HorizontalPodAutoscaler](t, r.objects)
	target := hpa.Spec.ScaleTargetRef
	if target.Kind != "Deployment" || target.APIVersion != "apps/v1" || target.Name != deployment.Name || deployment.Spec.Replicas != nil {
		t.Error("the autoscaler and the Deployment disagree over who counts the replicas")
	}
	if pod.sidecar.Resources.Requests.Cpu().IsZero() {
		t.Error("the autoscaler measures CPU against a request that is not there")
	}
	account := one[*corev1.ServiceAccount](t, r.objects)
	if pod.Spec.ServiceAccountName != account.Name || pod.Labels["azure.workload.identity/use"] != "true" {
		t.Error("the pods do not get the service account's identity")
	}
	checkSelects(t, pod, one[*policyv1.PodDisruptionBudget](t, r.objects).Spec.Selector.MatchLabels)
	for _, c := range pod.Spec.TopologySpreadConstraints {
		checkSelects(t, pod, c.LabelSelector.MatchLabels)
	}
	checkMonitor(t, r)
}

func checkSelects(t *testing.T, pod sidecarPod, selector map[string]string) {
	t.Helper()
	for key, value := range selector {
		if pod.Labels[key] != value {
			t.Errorf("%s=%s selects nothing", key, value)
		}
	}
}

func checkMonitor(t *testing.T, r release) {
	t.Helper()
	monitor := one[*monitoringv1.ServiceMonitor](t, r.objects)
	services := slices.DeleteFunc(every[*corev1.Service](r.objects), func(s *corev1.Service) bool {
		for key, value := range monitor.Spec.Selector.MatchLabels {
			if s.Labels[key] != value {
				return true
			}
		}
		return !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == monitor.Spec.Endpoints[0].Port })
	})
	if len(services) != 1 {
		t.Errorf("the ServiceMonitor selects %d Services, not 1", len(services))
	}
}

func TestTheNetworkPolicyAllowsWhatIsNeededAndNoMore(t *testing.T) {
	const imds = "169.254.169.254/32"
	for name, c := range map[string]struct {
		values string
		imds   bool
	}{
		"workload identity alone":               {"", false},
		"a route with a managed identity":       {"{config: {identities: {west: {credential: managed-identity}}}}", true},
		"no workload identity":                  {"{workloadIdentity: {enabled: false}}", true},
		"an identity that needs no IMDS":        {"{config: {identities: {west: {credential: workload-identity, client_id: x}}}}", false},
		"a further hole that the user asks for": {"{networkPolicy: {extraEgress: [{ports: [{port: 3128}]}]}}", false},
	} {
		t.Run(name, func(t *testing.T) {
			policy := one[*networkingv1.NetworkPolicy](t, mustGateway(t, c.values).objects)
			var toIMDS bool
			var open []string
			for _, rule := range policy.Spec.Egress {
				for _, port := range rule.Ports {
					open = append(open, port.Port.String())
				}
				for _, peer := range rule.To {
					toIMDS = toIMDS || peer.IPBlock.CIDR == imds
				}
			}
			if toIMDS != c.imds {
				t.Errorf("IMDS can be reached: %v", toIMDS)
			}
			if !slices.Contains(open, "53") || !slices.Contains(open, "443") {
				t.Errorf("DNS or Azure cannot be reached: ports %v", open)
			}
			if from := policy.Spec.Ingress[0]; from.Ports[0].Port.String() != "proxy" || len(from.From) == 0 {
				t.Errorf("clients: %+v", from)
			}
		})
	}
}

func TestTheGatewayWithoutTLSIsForServiceMeshes(t *testing.T) {
	r := mustGateway(t, "{tls: {enabled: false}, service: {port: 80}}")
	pod := podOf(t, one[*appsv1.Deployment](t, r.objects))
	if s := pod.settings(t, r.objects); s.Listen != ":4001" || s.TLS.Listen != "" || s.Inbound.KeysFile == "" {
		t.Errorf("%+v", s)
	}
	if len(every[*certmanagerv1.Certificate](r.objects)) != 0 || !strings.Contains(r.notes, "http://entra-sidecar.litellm.svc/eastus") {
		t.Error("there is a certificate, or the notes show https")
	}
}

func TestCertManagerMakesTheSecretThatThePodsMount(t *testing.T) {
	r := mustGateway(t, "")
	certificate := one[*certmanagerv1.Certificate](t, r.objects)
	if !slices.Contains(certificate.Spec.DNSNames, "entra-sidecar.litellm.svc") {
		t.Errorf("the certificate is for %v", certificate.Spec.DNSNames)
	}
	pod := podOf(t, one[*appsv1.Deployment](t, r.objects))
	if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Secret != nil && v.Secret.SecretName == certificate.Spec.SecretName
	}) {
		t.Errorf("nobody mounts %s", certificate.Spec.SecretName)
	}
	own := mustGateway(t, "{tls: {existingSecret: mine}}")
	if len(every[*certmanagerv1.Certificate](own.objects)) != 0 {
		t.Error("a Secret of the user's own is overwritten by cert-manager")
	}
}

func TestValuesThatCannotWorkAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ values, says string }{
		"no routes":                            {"{config: {routes: []}}", "routes"},
		"a route without TLS":                  {"{config: {routes: [{upstream: 'http://x'}]}}", "upstream"},
		"no inbound keys":                      {"{inbound: {existingSecret: ''}}", "existingSecret"},
		"no certificate":                       {"{tls: {certManager: {issuerName: ''}}}", "tls.existingSecret"},
		"no client id":                         {"{workloadIdentity: {clientId: ''}}", "workloadIdentity.clientId"},
		"a client id that is none":             {"{workloadIdentity: {clientId: my-identity}}", "clientId"},
		"a misspelt value":                     {"{replicas: 3}", "replicas"},
		"a misspelt value further inside":      {"{tls: {enable: true}}", "enable"},
		"a listener in config":                 {"{config: {listen: ':1'}}", "config.listen"},
		"a drain timeout in config":            {"{config: {drain_timeout: 1m}}", "config.drain_timeout"},
		"a memory limit in Kubernetes's units": {"{goMemLimit: 435Mi}", "goMemLimit"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := gateway(t, c.values); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("instead of naming %s: %v", c.says, err)
			}
		})
	}
}

func TestSettingsOfTheUsersReachTheConfiguration(t *testing.T) {
	r := mustGateway(t, `
drainTimeoutSeconds: 900
config:
  max_connection_age: 5m
  routes:
  - upstream: https://front.azure-api.net
    scope: https://cognitiveservices.azure.com/.default
    headers: {Ocp-Apim-Subscription-Key: "${APIM_KEY}"}
extraEnv:
- name: APIM_KEY
  valueFrom: {secretKeyRef: {name: apim, key: key}}
`)
	pod := podOf(t, one[*appsv1.Deployment](t, r.objects))
	s := pod.settings(t, r.objects, "APIM_KEY=x")
	if s.DrainTimeout != "15m" || *pod.Spec.TerminationGracePeriodSeconds != 930 {
		t.Errorf("it drains for %s, and Kubernetes waits %d s", s.DrainTimeout, *pod.Spec.TerminationGracePeriodSeconds)
	}
	if len(s.Routes) != 1 || s.Routes[0].Upstream != "https://front.azure-api.net" {
		t.Errorf("routes: %+v", s.Routes)
	}
}

// Kubernetes before 1.30 refuses a preStop hook that sleeps.
func TestOldKubernetesGetsNoSleepingHook(t *testing.T) {
	for version, sleeps := range map[string]bool{"v1.29.9": false, "v1.30.0": true, "v1.34.2-gke.100": true} {
		r, err := helm(t, chart, version, string(read(t, gatewayValues)))
		if err != nil {
			t.Fatal(err)
		}
		pod := podOf(t, one[*appsv1.Deployment](t, r.objects))
		if hook := pod.sidecar.Lifecycle; (hook != nil) != sleeps {
			t.Errorf("with Kubernetes %s the hook is %+v", version, hook)
		}
	}
}

func TestTheNotesAreCommandsThatFit(t *testing.T) {
	notes := mustGateway(t, "").notes
	for _, want := range []string{
		"api_base: https://entra-sidecar.litellm.svc/eastus",
		"system:serviceaccount:litellm:entra-sidecar",
		"rollout status deployment/entra-sidecar",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
	if strings.Contains(mustGateway(t, "{workloadIdentity: {enabled: false}}").notes, "federated") {
		t.Error("the notes speak of a federated credential that nobody needs")
	}
}

func TestOneBrokenIdentityDoesNotTakeTheGatewayOutOfService(t *testing.T) {
	pod := podOf(t, one[*appsv1.Deployment](t, mustGateway(t, "").objects))
	for probe, want := range map[*corev1.Probe]string{
		pod.sidecar.StartupProbe:   "/readyz",
		pod.sidecar.ReadinessProbe: "/livez",
		pod.sidecar.LivenessProbe:  "/livez",
	} {
		if probe.HTTPGet.Path != want || probe.HTTPGet.Port != intstr.FromString("entra-admin") {
			t.Errorf("a probe asks %s at %s, not %s", probe.HTTPGet.Path, probe.HTTPGet.Port.String(), want)
		}
	}
}
