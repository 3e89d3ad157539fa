package litellm_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"entra-sidecar/test/azure"
)

// Where the samples expect the sidecar, and what stands for it in the tests,
// which must not depend on free ports.
const (
	samplePlain = "127.0.0.1:4001"
	sampleTLS   = "127.0.0.1:4443"
)

// mainConfig includes every sample and adds what only the tests want: models
// without the sidecar, for the contrast, and no retries, which would hide it.
const mainConfig = `
include:
%s
model_list:
- model_name: without-sidecar
  litellm_params: {model: azure/gpt-4o, api_base: "%s", api_version: "2024-10-21", api_key: sidecar}
- model_name: without-sidecar-real-key
  litellm_params: {model: azure/gpt-4o, api_base: "%[2]s", api_version: "2024-10-21", api_key: %q}
- model_name: realtime-without-tls
  litellm_params: {model: azure/gpt-realtime, api_base: "http://%s", api_key: sidecar}
  model_info: {mode: realtime}
- model_name: missing
  litellm_params: {model: azure/missing, api_base: "http://%[4]s", api_version: "2024-10-21", api_key: sidecar}
litellm_settings: {num_retries: 0}
router_settings: {num_retries: 0, disable_cooldowns: true}
`

// offline keeps LiteLLM from fetching lists of prices and models at its start.
var offline = []string{
	"LITELLM_LOCAL_MODEL_COST_MAP=True",
	"LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS=True",
	"LITELLM_LOCAL_BLOG_POSTS=True",
	"LITELLM_LOCAL_POLICY_TEMPLATES=true",
	"DO_NOT_TRACK=1",
	// A call that LiteLLM sends to OpenAI instead of Azure must not leave this
	// machine. Nothing listens on the discard port.
	"OPENAI_BASE_URL=http://127.0.0.1:9/v1",
	"OPENAI_API_BASE=http://127.0.0.1:9/v1",
}

// startLiteLLM starts the real proxy and waits until it answers.
func (s *stack) startLiteLLM(t *testing.T, python string) {
	t.Helper()
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(python, "-c", "from litellm.proxy.proxy_cli import run_server; run_server()",
		"--config", s.writeConfig(t), "--host", host, "--port", port, "--telemetry", "False")
	cmd.Env = append(bareEnvironment(t), offline...)
	cmd.Env = append(cmd.Env, s.workloadIdentity(t)...)
	cmd.Env = append(cmd.Env, "LITELLM_MASTER_KEY="+masterKey, "SSL_CERT_FILE="+s.sidecars["realtime-tls"].bundle)
	s.proxy = startProcess(t, "LiteLLM", cmd)
	s.proxy.awaitOK(t, "http://"+address+"/health/liveliness", 2*time.Minute)
	s.litellm = endpoint{Kind: "openai", BaseURL: "http://" + address + "/v1", APIKey: masterKey}
}

// workloadIdentity is what the webhook of workload identity puts into every
// container of a pod, LiteLLM's included.
func (s *stack) workloadIdentity(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "azure-identity-token")
	write(t, file, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl")
	p := azure.DefaultPrincipal()
	return []string{
		"AZURE_TENANT_ID=" + p.TenantID,
		"AZURE_CLIENT_ID=" + p.ClientID,
		"AZURE_FEDERATED_TOKEN_FILE=" + file,
		"AZURE_AUTHORITY_HOST=" + s.azure.AuthorityURL,
	}
}

// writeConfig copies the litellm.yaml of every recipe, with the ports of this
// test run for those of the samples, and returns a file that includes them all.
func (s *stack) writeConfig(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var includes strings.Builder
	for recipe, sidecar := range s.sidecars {
		sample, err := os.ReadFile(filepath.Join(samples, recipe, "litellm.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		ported := strings.NewReplacer(samplePlain, sidecar.address(), sampleTLS, sidecar.tls).Replace(string(sample))
		write(t, filepath.Join(dir, recipe+".yaml"), ported)
		fmt.Fprintf(&includes, "- %s.yaml\n", recipe)
	}
	config := filepath.Join(dir, "config.yaml")
	write(t, config, fmt.Sprintf(mainConfig, includes.String(), s.azure.URL, realKey, s.sidecars["chat"].address()))
	return config
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeAddress is one that nobody listened on a moment ago. LiteLLM cannot be
// asked to take any port and tell which.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
