package litellm_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

//go:embed requirements.txt
var requirements []byte

// Python versions that LiteLLM supports: at least minPython, below maxPython.
var minPython, maxPython = [2]int{3, 10}, [2]int{3, 15}

// installTime bounds the first run, which downloads about 300 MB.
const installTime = 8 * time.Minute

// python returns the interpreter of a virtual environment that holds exactly
// requirements.txt. It is made on the first run and kept in the user's cache.
func python(t *testing.T) string {
	t.Helper()
	base, err := findPython(t.Context())
	if err != nil {
		unavailable(t, err)
	}
	venv, err := venvDir(t.Context(), base)
	if err != nil {
		unavailable(t, err)
	}
	interpreter := filepath.Join(venv, "bin", "python")
	if _, err := os.Stat(interpreter); err == nil {
		return interpreter
	}
	if err := install(t, base, venv); err != nil {
		unavailable(t, err)
	}
	return interpreter
}

// unavailable skips a test whose outside parts are missing, except in CI, where
// a test that silently does nothing must not pass.
func unavailable(t *testing.T, reason error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

func findPython(ctx context.Context) (string, error) {
	for _, name := range []string{"python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if v, err := pythonVersion(ctx, path); err == nil && less(minPython, v, true) && less(v, maxPython, false) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the real LiteLLM needs Python >=%d.%d,<%d.%d with venv and ensurepip, and none was found in PATH",
		minPython[0], minPython[1], maxPython[0], maxPython[1])
}

func pythonVersion(ctx context.Context, python string) (v [2]int, err error) {
	out, err := exec.CommandContext(ctx, python, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])").Output()
	if err != nil {
		return v, err
	}
	_, err = fmt.Sscan(string(out), &v[0], &v[1])
	return v, err
}

func less(a, b [2]int, orEqual bool) bool {
	order := cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	return order < 0 || orEqual && order == 0
}

// venvDir is named after all that the environment depends on, so that a change
// of the requirements or of Python makes another one.
func venvDir(ctx context.Context, python string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	version, err := pythonVersion(ctx, python)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Append(requirements, python, version))
	return filepath.Join(cache, "entra-sidecar", "litellm-"+hex.EncodeToString(sum[:8])), nil
}

// install makes the environment beside its place and then moves it there, so
// that neither a broken download nor a second test run leaves half of one.
// Python finds its packages again after the move; only the scripts in bin,
// which nothing here uses, do not.
func install(t *testing.T, base, venv string) error {
	if err := os.MkdirAll(filepath.Dir(venv), 0o755); err != nil {
		return err
	}
	building, err := os.MkdirTemp(filepath.Dir(venv), "building-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(building) // nothing is left to remove after the move
	t.Logf("installing the pinned LiteLLM into %s; this happens once", venv)
	ctx, cancel := context.WithTimeout(t.Context(), installTime)
	defer cancel()
	if err := run(ctx, base, "-m", "venv", building); err != nil {
		return err
	}
	// --no-deps: the list is complete, and each entry has its hashes.
	// --only-binary: no package runs code of its own while it is installed.
	if err := run(ctx, filepath.Join(building, "bin", "python"), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check",
		"--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", "requirements.txt"); err != nil {
		return err
	}
	if err := os.Rename(building, venv); err != nil && !isDir(venv) {
		return err
	}
	return nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// litellmVersion is the pinned one.
func litellmVersion() string {
	found := regexp.MustCompile(`(?m)^litellm==(\S+)`).FindSubmatch(requirements)
	return string(found[1])
}

func TestEveryRequirementIsPinnedWithItsHashes(t *testing.T) {
	entries := regexp.MustCompile(`(?m)^\S`).Split(string(requirements), -1)[1:]
	if len(entries) < 100 {
		t.Errorf("%d requirements: LiteLLM's proxy has more than that", len(entries))
	}
	for _, entry := range entries {
		if !strings.Contains(entry, "==") || !strings.Contains(entry, "--hash=sha256:") {
			t.Errorf("not pinned with a hash: %.80q", entry)
		}
	}
}

func TestRequirementsNameNoIndex(t *testing.T) {
	for _, option := range []string{"index-url", "find-links", "://", "trusted-host"} {
		if strings.Contains(string(requirements), option) {
			t.Errorf("requirements.txt contains %q", option)
		}
	}
}
