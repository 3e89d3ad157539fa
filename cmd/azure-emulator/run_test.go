package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// onFreePorts lets several tests run side by side.
func onFreePorts(args ...string) []string {
	return append([]string{
		"--listen=127.0.0.1:0", "--identity-listen=127.0.0.1:0", "--authority-listen=127.0.0.1:0", "--control-listen=127.0.0.1:0",
	}, args...)
}

// started runs the program until the test ends and returns what it printed.
func started(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, onFreePorts(args...), writer, writer); _ = writer.Close() }()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	var printed bytes.Buffer
	for buffer := make([]byte, 4096); !strings.Contains(printed.String(), "curl -X POST"); {
		n, err := reader.Read(buffer)
		printed.Write(buffer[:n])
		if err != nil {
			t.Fatalf("%v: %s", err, printed.String())
		}
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	return printed.String()
}

func TestItPrintsWhatAClientNeeds(t *testing.T) {
	printed := started(t, "--host=localhost")
	for _, want := range []string{
		`export AZURE_OPENAI_ENDPOINT=https://localhost:\d+\n`, `export IDENTITY_ENDPOINT=http://localhost:\d+/msi/token\n`,
		`export IDENTITY_HEADER=emulated\n`, `export SSL_CERT_FILE=/.*\n`,
	} {
		if !regexp.MustCompile(want).MatchString(printed) {
			t.Errorf("no %s in\n%s", want, printed)
		}
	}
}

func TestFlagsReachTheEmulator(t *testing.T) {
	ca, bundle := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "bundle.pem")
	t.Setenv("AZURE_EMULATOR_CHUNKS", "7")
	printed := started(t, "--ca-file="+ca, "--bundle-file="+bundle, "--token-life=30s", "--fault=missing-role", "--fault=entra:throttled",
		"--faults", `{"resource":{"key_beside_token":"token-wins"}}`, "--role=Owner", "--deployment=*", "--key-auth", "--verbose")
	for _, file := range []string{ca, bundle} {
		if data, err := os.ReadFile(file); err != nil || !bytes.Contains(data, []byte("BEGIN CERTIFICATE")) {
			t.Errorf("%s: %v", file, err)
		}
	}
	control := regexp.MustCompile(`Control +(\S+)`).FindStringSubmatch(printed)[1]
	res, err := http.Get(control + "/faults")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	faults, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"life": 30`, `"chunks": 7`, `"fault": "missing-role"`, `"fault": "throttled"`, `"key_beside_token": "token-wins"`, `"Owner"`, `"*"`, `"key_auth": true`,
	} {
		if !strings.Contains(string(faults), want) {
			t.Errorf("no %s in %s", want, faults)
		}
	}
}

func TestMisuseIsToldFromFailure(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(notPEM, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		said string
	}{
		"help":                       {[]string{"--help"}, 0, "--token-life"},
		"an unknown flag":            {[]string{"--nope"}, misuse, "unknown flag --nope"},
		"an unknown fault":           {[]string{"--fault=nope"}, misuse, `--fault: no fault of Azure is called "nope"`},
		"faults that are no JSON":    {[]string{"--faults={"}, misuse, "--faults: "},
		"a file without certificate": {[]string{"--client-certificate-file=" + notPEM}, misuse, "no certificate in"},
		"an unknown role":            {[]string{"--role=Reader"}, misuse, `resource.roles has "Reader"`},
		"an address that is no one":  {[]string{"--listen=127.0.0.1:99999"}, failed, "99999"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), tc.args, &out, &out); code != tc.code || !strings.Contains(out.String(), tc.said) {
				t.Errorf("code %d: %s", code, out.String())
			}
		})
	}
}

// TestTheBinaryEndsWell builds and signals the real program.
func TestTheBinaryEndsWell(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "azure-emulator")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := exec.CommandContext(t.Context(), binary, onFreePorts()...)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdout.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Process.Signal(signal)
		_, _ = io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", signal, err)
		}
	}
}
