package litellm_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// A client is a Python process that makes the calls of clients/calls.py with
// the real OpenAI client.
type client struct {
	mu      sync.Mutex // one command at a time
	in      io.WriteCloser
	answers *bufio.Reader
}

// An endpoint is what one gives an OpenAI client to find its server.
type endpoint struct {
	Kind       string  `json:"kind"` // "openai" or "azure"
	BaseURL    string  `json:"base_url"`
	APIKey     string  `json:"api_key"`
	APIVersion string  `json:"api_version,omitzero"`
	Timeout    float64 `json:"timeout,omitzero"` // seconds; 60 by default
}

// An outcome is what a call gave its user: a value or an error.
type outcome struct {
	OK    json.RawMessage `json:"ok"`
	Error *clientError    `json:"error"`
}

// A clientError is an error as the OpenAI client raises it.
type clientError struct {
	Type    string            `json:"type"`
	Message string            `json:"message"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
}

// newClient starts a client that trusts the authorities in bundle.
func newClient(t *testing.T, python, bundle string) *client {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python, "clients/calls.py")
	cmd.Env = append(bareEnvironment(t), "PYTHONWARNINGS=ignore", "SSL_CERT_FILE="+bundle)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() }) // t.Context has ended it if it does not listen
	return &client{in: in, answers: bufio.NewReader(out)}
}

// bareEnvironment keeps credentials and proxies of the developer's own machine
// away from a child process.
func bareEnvironment(t *testing.T) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + t.TempDir(),
		"NO_PROXY=127.0.0.1,localhost",
		"PYTHONUNBUFFERED=1",
		"PYTHONDONTWRITEBYTECODE=1",
	}
}

// arguments are those of a function of clients/calls.py.
type arguments map[string]any

// call runs a function of clients/calls.py.
func (c *client) call(t *testing.T, to endpoint, function string, args arguments) outcome {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	command := map[string]any{"call": function, "client": to, "args": args}
	if err := json.NewEncoder(c.in).Encode(command); err != nil {
		t.Fatalf("%s: the client is gone: %v", function, err)
	}
	line, err := c.answers.ReadBytes('\n')
	if err != nil {
		t.Fatalf("%s: the client gave no answer: %v", function, err)
	}
	var o outcome
	if err := json.Unmarshal(line, &o); err != nil {
		t.Fatalf("%s: %v in %s", function, err, line)
	}
	return o
}

// must is call for a call that has to succeed; its result is stored in result.
func (c *client) must(t *testing.T, to endpoint, function string, args arguments, result any) {
	t.Helper()
	o := c.call(t, to, function, args)
	if o.Error != nil {
		t.Fatalf("%s: %s %d: %s", function, o.Error.Type, o.Error.Status, o.Error.Message)
	}
	if err := json.Unmarshal(o.OK, result); err != nil {
		t.Fatalf("%s: %v in %s", function, err, o.OK)
	}
}

// fail is call for a call that has to fail.
func (c *client) fail(t *testing.T, to endpoint, function string, args arguments) clientError {
	t.Helper()
	o := c.call(t, to, function, args)
	if o.Error == nil {
		t.Fatalf("%s succeeded: %s", function, o.OK)
	}
	return *o.Error
}

// unixTime turns a client's time.time() into ours.
func unixTime(seconds float64) time.Time {
	return time.UnixMicro(int64(seconds * 1e6))
}
