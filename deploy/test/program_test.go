package deploy

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

// root is the repository.
const root = "../.."

var programs = struct {
	sync.Mutex
	dir string
}{}

func TestMain(m *testing.M) {
	var err error
	if programs.dir, err = os.MkdirTemp("", "deploy-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(programs.dir)
	os.Exit(code)
}

// program builds a program of the product, once, and returns its file.
func program(t *testing.T, name string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	file := filepath.Join(programs.dir, name)
	if _, err := os.Stat(file); err == nil {
		return file
	}
	run(t, nil, "go", "-C", root, "build", "-o", file, "./cmd/"+name)
	return file
}

// tool returns a program from the system. Without it the test is skipped, but
// not in CI, where that would pass for success.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	switch {
	case err == nil:
		return file
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is missing: apt-get install %s", name, debianPackage)
	default:
		t.Skipf("%s is missing: apt-get install %s", name, debianPackage)
	}
	return ""
}

// run returns what a command prints to standard output. env is added to a bare environment.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(t, env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(bare(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}

// bare is this process's environment without what would change a sidecar's.
func bare() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		prefix, _, _ := strings.Cut(strings.ToUpper(name), "_")
		switch prefix {
		case "AZURE", "ENTRA", "IDENTITY", "MSI", "HTTP", "HTTPS", "NO", "ALL", "SSL", "OTEL":
		default:
			env = append(env, v)
		}
	}
	return env
}

// settings is what `entra-sidecar config` prints, as far as these tests look.
type settings struct {
	Listen string `json:"listen"`
	Admin  struct {
		Listen string `json:"listen"`
	} `json:"admin"`
	TLS struct {
		Listen   string `json:"listen"`
		CertFile string `json:"cert_file"`
		KeyFile  string `json:"key_file"`
	} `json:"tls"`
	Inbound struct {
		KeysFile string `json:"keys_file"`
	} `json:"inbound"`
	Routes []struct {
		Prefix   string `json:"prefix"`
		Upstream string `json:"upstream"`
	} `json:"routes"`
	DrainTimeout string `json:"drain_timeout"`
}

// configured has the real binary load a configuration.
func configured(t *testing.T, env ...string) settings {
	t.Helper()
	var s settings
	out := run(t, env, program(t, "entra-sidecar"), "config")
	if err := yaml.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return s
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
