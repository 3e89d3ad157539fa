// Package check runs `entra-sidecar check`, and the proxy beside it, as built
// binaries against every cause that the diagnosis table knows.
package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"entra-sidecar/test/azure"
)

// upstream is a resource's name as users have it. The emulator's forward proxy
// leads there, so that remedies can name the resource.
const upstream = "https://my-eastus.openai.azure.com"

const chatPath = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"

var binary string

// TestMain builds a static binary, which also runs where there is nothing else.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "entra-sidecar-check-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "entra-sidecar")
	build := exec.Command("go", "build", "-o", binary, "entra-sidecar/cmd/entra-sidecar")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the binary: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A stage is an emulated Azure, and the settings of the processes before it.
type stage struct {
	t     *testing.T
	azure *azure.Emulator
	env   map[string]string
	args  []string // of every command
	check []string // of check alone

	isolated func(*exec.Cmd) // nil: it runs as the test does

	output bytes.Buffer // of every process, for the search for secrets
}

// newStage is a healthy set-up: App Service's managed identity, and the way to
// Azure through a forward proxy.
func newStage(t *testing.T) *stage {
	t.Helper()
	e, err := azure.Start(azure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	s := &stage{t: t, azure: e, env: map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": t.TempDir(),
		"HTTPS_PROXY": e.IdentityURL, "NO_PROXY": "127.0.0.1,localhost,169.254.169.254",
		"ENTRA_SIDECAR_FIRST_TOKEN_TIMEOUT": "2s",
	}}
	for _, variable := range e.Env() {
		name, value, _ := strings.Cut(variable, "=")
		s.env[name] = value
	}
	s.env["AZURE_OPENAI_ENDPOINT"] = upstream
	return s
}

// clientSecret makes the identity one that asks Entra itself.
func (s *stage) clientSecret() {
	p := azure.DefaultPrincipal()
	s.withoutManagedIdentity()
	s.env["AZURE_TENANT_ID"], s.env["AZURE_CLIENT_ID"], s.env["AZURE_CLIENT_SECRET"] = p.TenantID, p.ClientID, p.ClientSecret
	s.env["AZURE_AUTHORITY_HOST"] = s.azure.AuthorityURL
}

func (s *stage) withoutManagedIdentity() {
	delete(s.env, "IDENTITY_ENDPOINT")
	delete(s.env, "IDENTITY_HEADER")
}

// imds lets requests for 169.254.169.254 reach the emulator.
func (s *stage) imds() {
	s.withoutManagedIdentity()
	s.env["HTTP_PROXY"], s.env["NO_PROXY"] = s.azure.IdentityURL, "127.0.0.1,localhost"
}

// fault switches one on by its name.
func (s *stage) fault(name string) {
	s.azure.Set(func(f *azure.Faults) {
		if err := f.Add(name); err != nil {
			s.t.Fatal(err)
		}
	})
}

func (s *stage) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, binary, append(args, s.args...)...)
	c.Env = []string{}
	for name, value := range s.env {
		c.Env = append(c.Env, name+"="+value)
	}
	if s.isolated != nil {
		s.isolated(c)
	}
	return c
}

// A report is what users can count on in the JSON of check.
type report struct {
	OK       bool      `json:"ok"`
	ExitCode int       `json:"exit_code"`
	Problems []string  `json:"problems"`
	Findings []finding `json:"findings"`
	Routes   []struct {
		Prefix   string `json:"prefix"`
		OK       bool   `json:"ok"`
		ExitCode int    `json:"exit_code"`
		Steps    []step `json:"steps"`
	} `json:"routes"`
}

type step struct {
	Name     string            `json:"name"`
	Status   string            `json:"status"`
	Summary  string            `json:"summary"`
	Facts    map[string]string `json:"facts"`
	Findings []finding         `json:"findings"`
	Sources  []struct {
		Source string   `json:"source"`
		Reason string   `json:"reason"`
		Remedy *finding `json:"remedy"`
	} `json:"sources"`
}

type finding struct {
	Cause    string `json:"cause"`
	Detail   string `json:"detail"`
	Sentence string `json:"sentence"`
	Remedy   string `json:"remedy"`
}

// step returns one of the first route's, which must be there.
func (r *report) step(t *testing.T, name string) step {
	t.Helper()
	for _, s := range r.Routes[0].Steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no step %s", name)
	return step{}
}

// all returns every finding, wherever it is.
func (r *report) all() []finding {
	all := slices.Clone(r.Findings)
	for _, route := range r.Routes {
		for _, s := range route.Steps {
			all = append(all, s.Findings...)
		}
	}
	return all
}

// runCheck returns the exit code and the report of check.
func (s *stage) runCheck() (int, *report) {
	s.t.Helper()
	code, stdout := s.run(s.command(s.t.Context(), append([]string{"check", "--output", "json"}, s.check...)...))
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		s.t.Fatalf("check --output json: %v\n%s", err, s.output.String())
	}
	if code != r.ExitCode || r.OK != (code == 0) {
		s.t.Errorf("check exits with %d and reports %d, ok %v", code, r.ExitCode, r.OK)
	}
	return code, &r
}

// text returns the exit code and the report for people.
func (s *stage) text() (int, string) {
	s.t.Helper()
	return s.run(s.command(s.t.Context(), append([]string{"check"}, s.check...)...))
}

func (s *stage) run(c *exec.Cmd) (int, string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	fmt.Fprintf(&s.output, "%s%s", stdout.String(), stderr.String())
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		s.t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stdout.String()
}

// A served request is one through the running proxy.
type served struct {
	status  int
	header  http.Header
	body    string
	log     []logLine
	metrics string
}

type logLine struct {
	Level, Cause, Explanation, Remedy string
}

// serve starts the proxy, sends one request and stops it again.
func (s *stage) serve(path string) *served {
	s.t.Helper()
	listen, admin := freeAddress(s.t), freeAddress(s.t)
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	c := s.command(ctx, "serve", "--listen", listen, "--admin-listen", admin)
	var log lockedBuffer
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		stop()
		_ = c.Wait() // it was killed
		s.output.WriteString(log.String())
	}()
	s.awaitLive("http://"+admin+"/livez", &log)

	r := s.chat("http://" + listen + path)
	fmt.Fprintf(&s.output, "%v\n%s", r.header, r.body)
	r.metrics = s.get("http://" + admin + "/metrics")
	s.output.WriteString(s.get("http://"+admin+"/status.json") + s.get("http://"+admin+"/"))
	lines := bufio.NewScanner(strings.NewReader(log.String()))
	for lines.Scan() {
		var line logLine
		if json.Unmarshal(lines.Bytes(), &line) == nil {
			r.log = append(r.log, line)
		}
	}
	return r
}

func (s *stage) awaitLive(url string, log *lockedBuffer) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get(url)
		if err == nil {
			res.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the proxy does not start: %v\n%s", err, log.String())
		}
	}
}

func (s *stage) chat(url string) *served {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader(`{"messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Api-Key", "sidecar")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return &served{status: res.StatusCode, header: res.Header, body: string(body)}
}

func (s *stage) get(url string) string {
	s.t.Helper()
	res, err := http.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// assertNoSecrets looks for tokens and secrets in all that was ever written.
func (s *stage) assertNoSecrets() {
	s.t.Helper()
	secrets := []string{azure.DefaultPrincipal().ClientSecret, azure.MalformedToken}
	for _, r := range s.azure.Requests() {
		secrets = append(secrets, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}
	written := s.output.String()
	for _, secret := range secrets {
		parts := strings.Split(secret, ".") // of a JWT, none may be there
		for _, part := range parts {
			if len(part) > 16 && strings.Contains(written, part) {
				s.t.Errorf("a secret was written: %.12s…", part)
			}
		}
	}
}

// A lockedBuffer may be written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
