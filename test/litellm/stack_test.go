package litellm_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"entra-sidecar/test/azure"
)

// The keys that no request to Azure may carry.
const (
	dummyKey  = "sidecar"                        // in the samples
	realKey   = azure.DefaultKey                 // the resource's own, where key authentication is off
	masterKey = "sk-litellm-master-key-of-tests" // LiteLLM's own
)

// samples are the recipes, each a directory with a sidecar.yaml and a litellm.yaml.
const samples = "../../deploy/samples"

// A stack is everything between a user and Azure: one LiteLLM that was given
// the samples of every recipe, and for each recipe a sidecar with its sample.
type stack struct {
	azure    *azure.Emulator
	apim     *azure.Emulator // another one behind an API Management front
	sidecars map[string]*sidecar
	litellm  endpoint
	proxy    *process // LiteLLM
	client   *client
}

// A sidecar is the running program, its clients meeting the tap before it.
type sidecar struct {
	*tap
	tls    string // address of the TLS listener
	bundle string // file with the authority of that listener
}

const (
	westClientID = "44444444-4444-4444-8444-444444444444"
	apimKey      = "emulated-subscription-key"
)

func startStack(t *testing.T) *stack {
	t.Helper()
	interpreter := python(t)
	s := &stack{
		azure: startAzure(t, azure.Options{Principals: []azure.Principal{azure.DefaultPrincipal(), westPrincipal()}}),
		apim: startAzure(t, azure.Options{
			Names:  []string{"my-gateway.azure-api.net"},
			Faults: azure.Faults{Resource: azure.Resource{SubscriptionKey: apimKey}},
		}),
		sidecars: map[string]*sidecar{},
	}
	binary := build(t)
	for _, recipe := range recipes(t) {
		e := s.azure
		if recipe == "apim" {
			e = s.apim
		}
		s.sidecars[recipe] = startSidecar(t, binary, recipe, e)
	}
	s.startLiteLLM(t, interpreter)
	s.client = newClient(t, interpreter, s.sidecars["realtime-tls"].bundle)
	return s
}

// westPrincipal is the second identity of the sample "regions".
func westPrincipal() azure.Principal {
	p := azure.DefaultPrincipal()
	p.ClientID = westClientID
	p.ObjectID = "55555555-5555-4555-8555-555555555555"
	return p
}

func startAzure(t *testing.T, o azure.Options) *azure.Emulator {
	t.Helper()
	e, err := azure.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// recipes are the names of the samples.
func recipes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(samples + "/*/sidecar.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(filepath.Dir(file)))
	}
	return names
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "entra-sidecar")
	if err := run(t.Context(), "go", "build", "-o", binary, "entra-sidecar/cmd/entra-sidecar"); err != nil {
		t.Fatal(err)
	}
	return binary
}

// startSidecar runs a recipe's sidecar.yaml as it is. The hosts in it are
// public names: the sidecar reaches the emulator under them through the proxy
// that the environment names, as it would leave a company's network.
func startSidecar(t *testing.T, binary, recipe string, e *azure.Emulator) *sidecar {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "ca-bundle.pem")
	env := append(bareEnvironment(t), withoutEndpoint(e.Env())...)
	env = append(env,
		"HTTPS_PROXY="+forwardProxy(t, e),
		"ENTRA_SIDECAR_LISTEN=127.0.0.1:0",
		"ENTRA_SIDECAR_ADMIN_LISTEN=127.0.0.1:0",
		"WEST_CLIENT_ID="+westClientID,
		"APIM_KEY="+apimKey,
	)
	if recipe == "realtime-tls" {
		env = append(env, "ENTRA_SIDECAR_TLS_LISTEN=127.0.0.1:0", "ENTRA_SIDECAR_TLS_CA_BUNDLE_FILE="+bundle)
	}
	cmd := exec.Command(binary, "serve", "--config", filepath.Join(samples, recipe, "sidecar.yaml"))
	cmd.Env = env
	p := startProcess(t, "sidecar of "+recipe, cmd)
	l := p.awaitListeners(t, recipe == "realtime-tls")
	p.awaitOK(t, "http://"+l.admin+"/readyz", 20*time.Second)
	return &sidecar{tap: newTap(t, l.proxy), tls: l.tls, bundle: bundle}
}

// forwardProxy leads whatever host it is asked for to e. The emulator's own
// knows the names of Azure OpenAI, but not those of API Management.
func forwardProxy(t *testing.T, e *azure.Emulator) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upstream, err := net.Dial("tcp", strings.TrimPrefix(e.URL, "https://"))
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer upstream.Close()
		w.WriteHeader(http.StatusOK)
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		join(client, buffered, upstream)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// withoutEndpoint leaves the upstream to the file.
func withoutEndpoint(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "AZURE_OPENAI_ENDPOINT=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// A process is a running child with its output in a file.
type process struct {
	name  string
	log   string
	ended chan struct{} // closed when it has
}

// startProcess starts cmd and ends it with the test. Its output is shown if the
// test fails.
func startProcess(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(t.TempDir(), "log"), ended: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); out.Close(); close(p.ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		killer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		<-p.ended
		killer.Stop()
		if strings.Contains(p.output(), "panic") {
			t.Errorf("%s panicked", name)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", name, p.tail(40))
		}
	})
	return p
}

// output is all that the process has written so far.
func (p *process) output() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// tail is the end of the output, in lines.
func (p *process) tail(lines int) string {
	all := strings.SplitAfter(p.output(), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}

// await tries until done, the end of the process, or of patience.
func (p *process) await(t *testing.T, what string, patience time.Duration, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-p.ended:
			t.Fatalf("%s ended before %s:\n%s", p.name, what, p.tail(40))
		case <-deadline:
			t.Fatalf("%s: no %s within %s:\n%s", p.name, what, patience, p.tail(40))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// awaitOK waits until address answers with 200.
func (p *process) awaitOK(t *testing.T, address string, patience time.Duration) {
	t.Helper()
	p.await(t, "200 from "+address, patience, func() bool {
		r, err := http.Get(address)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// listeners are the addresses that a sidecar says it listens on.
type listeners struct{ proxy, tls, admin string }

// awaitListeners reads the addresses from the sidecar's log: with port 0 nobody
// else knows them.
func (p *process) awaitListeners(t *testing.T, withTLS bool) (l listeners) {
	t.Helper()
	p.await(t, "addresses in the log", 20*time.Second, func() bool {
		l = readListeners(p.output())
		return l.proxy != "" && l.admin != "" && (l.tls != "") == withTLS
	})
	return l
}

func readListeners(log string) (l listeners) {
	for line := range strings.Lines(log) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch entry.Msg {
		case "listening":
			l.proxy = entry.Address
		case "listening with TLS":
			l.tls = entry.Address
		case "admin listening":
			l.admin = entry.Address
		}
	}
	return l
}
