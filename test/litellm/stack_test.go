package litellm_test

import (
	"context"
	"encoding/json"
	"net/http"
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
	log      string // file with LiteLLM's output
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
	python := python(t)
	s := &stack{
		azure: startAzure(t, azure.Options{Principals: []azure.Principal{azure.DefaultPrincipal(), westPrincipal()}}),
		apim: startAzure(t, azure.Options{Faults: azure.Faults{
			Resource: azure.Resource{SubscriptionKey: apimKey},
		}}),
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
	s.startLiteLLM(t, python)
	s.client = newClient(t, python, s.azure.BundleFile)
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
		"HTTPS_PROXY="+e.IdentityURL,
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
	log := startProcess(t, "sidecar-"+recipe, cmd)
	l := awaitListeners(t, log, recipe == "realtime-tls")
	awaitOK(t, "http://"+l.admin+"/readyz", 20*time.Second, log)
	return &sidecar{tap: newTap(t, l.proxy), tls: l.tls, bundle: bundle}
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

// startProcess starts cmd, ends it with the test, and returns the file that its
// output goes to, which is shown if the test fails.
func startProcess(t *testing.T, name string, cmd *exec.Cmd) (log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), name+".log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		killer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // ended by our own signal
		killer.Stop()
		out.Close()
		if t.Failed() {
			t.Logf("%s:\n%s", name, tail(log, 40))
		}
	})
	return log
}

// tail is the end of a file, in lines.
func tail(file string, lines int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.SplitAfter(string(data), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}

// listeners are the addresses that a sidecar says it listens on.
type listeners struct{ proxy, tls, admin string }

// awaitListeners reads the addresses from the sidecar's log: with port 0 nobody
// else knows them.
func awaitListeners(t *testing.T, log string, withTLS bool) listeners {
	t.Helper()
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		l := readListeners(log)
		if l.proxy != "" && l.admin != "" && (l.tls != "") == withTLS {
			return l
		}
	}
	t.Fatalf("the sidecar did not say where it listens:\n%s", tail(log, 20))
	return listeners{}
}

func readListeners(log string) (l listeners) {
	data, err := os.ReadFile(log)
	if err != nil {
		return l
	}
	for line := range strings.Lines(string(data)) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch {
		case entry.Msg == "admin listening":
			l.admin = entry.Address
		case entry.Msg == "listening" && l.proxy == "":
			l.proxy = entry.Address
		case entry.Msg == "listening":
			l.tls = entry.Address
		}
	}
	return l
}

// awaitOK asks for address until the answer is 200.
func awaitOK(t *testing.T, address string, patience time.Duration, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		if r, err := http.Get(address); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s was not ready within %s:\n%s", address, patience, tail(log, 40))
}
