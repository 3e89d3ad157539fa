// Package e2e drives the built binary against the emulator, as a user would run
// it: with flags, environment and signals.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"entra-sidecar/test/azure"
)

const (
	chatPath       = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
	embeddingsPath = "/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21"
	realtimePath   = "/openai/realtime?api-version=2024-10-01-preview&deployment=gpt-4o-realtime-preview"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "entra-sidecar-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "entra-sidecar")
	// -race finds in the binary what it cannot find in another process's test.
	out, err := exec.Command("go", "build", "-race", "-o", binary, "entra-sidecar/cmd/entra-sidecar").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building the binary: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A sidecar is a running binary.
type sidecar struct {
	t       *testing.T
	command *exec.Cmd
	url     string
	secure  string // the TLS listener's; empty without one
	admin   string
	log     *logBuffer
	exited  chan struct{}
}

// logBuffer may be written and read at the same time.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newAzure(t *testing.T, faults azure.Faults) *azure.Emulator {
	t.Helper()
	e, err := azure.Start(azure.Options{Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// start runs the binary with the emulator's environment and nothing of the
// developer's own that a credential could pick up, and waits until it listens.
func start(t *testing.T, e *azure.Emulator, args ...string) *sidecar {
	t.Helper()
	s := run(t, e, nil, args...)
	s.eventually(10*time.Second, "listening", func() bool { return s.addresses() || s.hasExited() })
	return s
}

// startReady waits until /readyz is 200 as well.
func startReady(t *testing.T, e *azure.Emulator, args ...string) *sidecar {
	t.Helper()
	return startWith(t, e, nil, args...)
}

// startWith is startReady with more in the environment.
func startWith(t *testing.T, e *azure.Emulator, environment []string, args ...string) *sidecar {
	t.Helper()
	s := run(t, e, environment, args...)
	s.eventually(20*time.Second, "ready", func() bool { return s.addresses() && s.status(s.admin+"/readyz") == http.StatusOK })
	return s
}

func run(t *testing.T, e *azure.Emulator, environment []string, args ...string) *sidecar {
	t.Helper()
	s := &sidecar{t: t, log: new(logBuffer), exited: make(chan struct{})}
	s.command = exec.Command(binary, append([]string{"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)...)
	s.command.Env = slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, e.Env(), environment)
	s.command.Stdout, s.command.Stderr = s.log, s.log
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.command.Wait() // its code is asked for where it matters
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	return s
}

var listening = regexp.MustCompile(`"msg":"(listening|listening with TLS|admin listening)","address":"([^"]+)"`)

// addresses reads from the log where the sidecar listens: a port that a test
// chose beforehand might be taken by then.
func (s *sidecar) addresses() bool {
	for _, match := range listening.FindAllStringSubmatch(s.log.String(), -1) {
		switch match[1] {
		case "listening":
			s.url = "http://" + match[2]
		case "listening with TLS":
			s.secure = "https://" + match[2]
		default:
			s.admin = "http://" + match[2]
		}
	}
	return s.url != "" && s.admin != ""
}

func (s *sidecar) hasExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

func tail(text string, length int) string { return text[max(0, len(text)-length):] }

func (s *sidecar) kill() {
	if s.t.Failed() {
		s.t.Logf("the end of the sidecar's log:\n%s", tail(s.log.String(), 4000))
	}
	if strings.Contains(s.log.String(), "DATA RACE") {
		s.t.Errorf("data race in the binary:\n%s", s.log.String())
	}
	_ = s.command.Process.Kill()
	<-s.exited
}

func (s *sidecar) terminate() {
	s.t.Helper()
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
}

// exitCode waits for the end of the process.
func (s *sidecar) exitCode(within time.Duration) int {
	s.t.Helper()
	select {
	case <-s.exited:
		return s.command.ProcessState.ExitCode()
	case <-time.After(within):
		s.t.Fatalf("the sidecar is still running after %v", within)
		return -1
	}
}

func (s *sidecar) eventually(within time.Duration, what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not %s within %v", what, within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// status is 0 when there is no answer.
func (s *sidecar) status(url string) int {
	res, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// metric sums the series of a name whose labels contain all of those given.
func (s *sidecar) metric(name string, labels ...string) float64 {
	s.t.Helper()
	res, err := http.Get(s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	sum := 0.0
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), "} ")
		if !strings.HasPrefix(series, name+"{") || !containsAll(series, labels) {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err != nil {
			s.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

type object = map[string]any

func post(ctx context.Context, url string, body any) (*http.Response, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("api-key", "sidecar")
	return http.DefaultClient.Do(req)
}

// answer returns status, header and body of a request that must be answered.
func answer(t *testing.T, url string, body any) (int, http.Header, string) {
	t.Helper()
	res, err := post(t.Context(), url, body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(content)
}

func chat(text string, stream bool) object {
	return object{"stream": stream, "messages": []object{{"role": "user", "content": text}}}
}
