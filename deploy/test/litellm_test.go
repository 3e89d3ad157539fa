package deploy

import (
	"os"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// The values of LiteLLM's two charts that we set, as those charts name them.
// Anything else in our files is a mistake here.
type (
	litellmHelmValues struct {
		ServiceAccount                account            `json:"serviceAccount"`
		PodLabels                     map[string]string  `json:"podLabels"`
		PodAnnotations                map[string]string  `json:"podAnnotations"`
		TerminationGracePeriodSeconds int64              `json:"terminationGracePeriodSeconds"`
		ExtraInitContainers           []corev1.Container `json:"extraInitContainers"`
		EnvVars                       map[string]string  `json:"envVars"`
		ProxyConfig                   map[string]any     `json:"proxy_config"`
	}
	litellmValues struct {
		ServiceAccounts struct {
			Gateway account `json:"gateway"`
		} `json:"serviceAccounts"`
		Gateway struct {
			PodLabels                     map[string]string  `json:"podLabels"`
			PodAnnotations                map[string]string  `json:"podAnnotations"`
			TerminationGracePeriodSeconds int64              `json:"terminationGracePeriodSeconds"`
			ExtraInitContainers           []corev1.Container `json:"extraInitContainers"`
			ExtraEnv                      []corev1.EnvVar    `json:"extraEnv"`
			MetricsServer                 struct {
				Port int `json:"port"`
			} `json:"metricsServer"`
			Config struct {
				ProxyConfig map[string]any `json:"proxy_config"`
			} `json:"config"`
		} `json:"gateway"`
	}
	account struct {
		Create      bool              `json:"create"`
		Name        string            `json:"name"`
		Annotations map[string]string `json:"annotations"`
	}
)

// A litellmChart is what a values file makes of one of LiteLLM's charts.
type litellmChart struct {
	account     account
	pod         corev1.PodTemplateSpec
	proxyConfig map[string]any
}

func litellmHelm(t *testing.T) litellmChart {
	var v litellmHelmValues
	unmarshalStrict(t, root+"/deploy/helm/litellm/litellm-helm.yaml", &v)
	c := litellmChart{account: v.ServiceAccount, proxyConfig: v.ProxyConfig}
	c.pod.Labels, c.pod.Annotations = v.PodLabels, v.PodAnnotations
	c.pod.Spec.TerminationGracePeriodSeconds = &v.TerminationGracePeriodSeconds
	c.pod.Spec.InitContainers = v.ExtraInitContainers
	c.pod.Spec.Containers = []corev1.Container{{Name: "litellm"}}
	return c
}

func litellmNew(t *testing.T) litellmChart {
	var v litellmValues
	file := root + "/deploy/helm/litellm/litellm.yaml"
	unmarshalStrict(t, file, &v)
	if strings.Contains(string(read(t, file)), "{{") {
		t.Error("this chart renders extraInitContainers as a template, and would take the braces for its own")
	}
	if p := v.Gateway.MetricsServer.Port; p == 4001 || p == 4002 || p == 0 {
		t.Errorf("LiteLLM's metrics server would take the port %d from the sidecar", p)
	}
	c := litellmChart{account: v.ServiceAccounts.Gateway, proxyConfig: v.Gateway.Config.ProxyConfig}
	c.pod.Labels, c.pod.Annotations = v.Gateway.PodLabels, v.Gateway.PodAnnotations
	c.pod.Spec.TerminationGracePeriodSeconds = &v.Gateway.TerminationGracePeriodSeconds
	c.pod.Spec.InitContainers = v.Gateway.ExtraInitContainers
	c.pod.Spec.Containers = []corev1.Container{{Name: "gateway"}, {Name: "metrics"}, {Name: "collector"}}
	return c
}

func unmarshalStrict(t *testing.T, file string, v any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(read(t, file), v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func TestLiteLLMsChartsGetTheSidecar(t *testing.T) {
	component := podOf(t, one[*appsv1.Deployment](t, kustomize(t, filesys.MakeFsOnDisk(), example)))
	for name, load := range map[string]func(*testing.T) litellmChart{"litellm-helm": litellmHelm, "helm/litellm": litellmNew} {
		t.Run(name, func(t *testing.T) {
			c := load(t)
			selector := &metav1.LabelSelector{MatchLabels: c.pod.Labels} // is the chart's affair
			pod := podOf(t, &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Selector: selector, Template: c.pod}})
			pod.checkNative(t)
			pod.checkSkipped(t)
			if s := pod.settings(t, nil); s.Listen != "127.0.0.1:4001" || s.Admin.Listen != ":4002" {
				t.Errorf("the sidecar listens at %s and %s", s.Listen, s.Admin.Listen)
			}
			if !c.account.Create || c.account.Annotations["azure.workload.identity/client-id"] == "" {
				t.Error("the service account has no identity")
			}
			checkSameContainer(t, *pod.sidecar, *component.sidecar)
			checkSample(t, c.proxyConfig)
		})
	}
}

// checkSameContainer compares all but where the configuration comes from, so
// that what is improved in one manifest is improved in each.
func checkSameContainer(t *testing.T, got, want corev1.Container) {
	t.Helper()
	for _, c := range []*corev1.Container{&got, &want} {
		c.VolumeMounts = nil
		var env []corev1.EnvVar
		for _, v := range c.Env {
			if v.Name != "ENTRA_SIDECAR_CONFIG" && v.Name != "ENTRA_SIDECAR_UPSTREAM" {
				env = append(env, v)
			}
		}
		c.Env = env
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the container differs from the kustomize component's:\n%+v\n%+v", got, want)
	}
}

// checkSample checks that LiteLLM gets what test/litellm runs.
func checkSample(t *testing.T, got map[string]any) {
	t.Helper()
	want := map[string]any{}
	unmarshalStrict(t, root+"/deploy/samples/chat/litellm.yaml", &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("LiteLLM's configuration is not that of deploy/samples/chat:\n%v\n%v", got, want)
	}
}

// LiteLLM's charts are not part of this repository. With a copy at hand:
//
//	LITELLM_HELM_CHART_DIR=…/deploy/charts/litellm-helm LITELLM_CHART_DIR=…/helm/litellm go test -run Rendered .
//
// Their dependencies (a database, Redis) may be left out: `dependencies: []` in Chart.yaml.
func TestLiteLLMsChartsRenderedWithOurValues(t *testing.T) {
	for variable, c := range map[string]struct{ values, container string }{
		"LITELLM_HELM_CHART_DIR": {"litellm-helm.yaml", "litellm"},
		"LITELLM_CHART_DIR":      {"litellm.yaml", "gateway"},
	} {
		t.Run(variable, func(t *testing.T) {
			dir := os.Getenv(variable)
			if dir == "" {
				t.Skip(variable + " is not set: the chart is not part of this repository, and TestLiteLLMsChartsGetTheSidecar checks the values without it")
			}
			r, err := helm(t, dir, "v1.34.0", string(read(t, root+"/deploy/helm/litellm/"+c.values)))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range every[*appsv1.Deployment](r.objects) {
				if d.Spec.Template.Spec.Containers[0].Name == c.container {
					podOf(t, d).checkNative(t)
					return
				}
			}
			t.Errorf("there is no Deployment with a container %s", c.container)
		})
	}
}
