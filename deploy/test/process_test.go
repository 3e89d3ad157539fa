package deploy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	chatPath = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
	chatBody = `{"messages":[{"role":"user","content":"hello"}]}`
)

// A lockedBuffer is written by a process while a test reads it.
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

// start runs a program until the test ends, and shows its output if it failed.
func start(t *testing.T, cmd *exec.Cmd, env []string) *lockedBuffer {
	t.Helper()
	output := new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = output, output
	if cmd.Env == nil {
		cmd.Env = append(bare(), env...)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, output)
		}
	})
	return output
}

// await tries until it works, every 50 ms.
func await(t *testing.T, limit time.Duration, attempt func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := attempt()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %s: %v", limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// freePort returns one as ":PORT". Somebody else may take it before it is used,
// which is unlikely enough for a test.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprintf(":%d", l.Addr().(*net.TCPAddr).Port)
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	return answer(t, http.MethodGet, url, "")
}

func post(t *testing.T, url, body string) (status int, answered string) {
	t.Helper()
	return answer(t, http.MethodPost, url, body)
}

// answer returns status 0 and the reason if there is no answer.
func answer(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("api-key", "sidecar")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(content)
}
