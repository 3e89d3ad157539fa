package app

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"entra-sidecar/cmd/internal/check"
	"entra-sidecar/config"
	"entra-sidecar/tokencache"
)

func TestTheChainTellsHowItCameToItsToken(t *testing.T) {
	const failed = "NewDefaultAzureCredential failed to initialize some credentials:\n\t" +
		"EnvironmentCredential: missing environment variable AZURE_TENANT_ID\n\t" +
		"AzurePowerShellCredential: x"
	environment := tokencache.SourceFailure{Source: "EnvironmentCredential", Reason: "AZURE_TENANT_ID is not set"}
	managed := tokencache.SourceFailure{Source: "ManagedIdentityCredential", Reason: "no managed identity answered"}
	for _, tt := range []struct {
		name     string
		messages []string
		source   string
		passed   []tokencache.SourceFailure
	}{
		{"no chain", nil, "", nil},
		{"the first of a chain", []string{"DefaultAzureCredential authenticated with EnvironmentCredential"}, "EnvironmentCredential", nil},
		{"a managed identity", []string{failed, "ManagedIdentityCredential will use IMDS managed identity", "DefaultAzureCredential authenticated with ManagedIdentityCredential"},
			"ManagedIdentityCredential", []tokencache.SourceFailure{environment}},
		{"the command line", []string{failed, "ManagedIdentityCredential will use IMDS managed identity", "DefaultAzureCredential authenticated with AzureCLICredential"},
			"AzureCLICredential", []tokencache.SourceFailure{environment, managed}},
		{"the command line, alone", []string{"DefaultAzureCredential authenticated with AzureCLICredential"}, "AzureCLICredential", nil},
		{"PowerShell", []string{failed, "DefaultAzureCredential authenticated with AzurePowerShellCredential"}, "AzurePowerShellCredential", []tokencache.SourceFailure{environment}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &logins{reasons: map[string]string{"EnvironmentCredential": "of an earlier identity"}, answered: "earlier"}
			l.forget()
			for _, message := range tt.messages {
				l.note(message)
			}
			source, passed := l.told()
			if diff := cmp.Diff(tt.passed, passed); diff != "" || source != tt.source {
				t.Errorf("%q %s", source, diff)
			}
		})
	}
}

// /dev/null is what a terminal is to isTerminal: a character device.
func TestColoursAndMarksFollowTheTerminal(t *testing.T) {
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, tt := range []struct {
		name          string
		env           map[string]string
		piped         bool
		colour, ascii bool
	}{
		{"a terminal", nil, false, true, false},
		{"a pipe", nil, true, false, false},
		{"NO_COLOR", map[string]string{"NO_COLOR": "1"}, false, false, false},
		{"a dumb terminal", map[string]string{"TERM": "dumb"}, false, false, false},
		{"a UTF-8 locale", map[string]string{"LANG": "de_DE.utf8"}, false, true, false},
		{"a locale of old", map[string]string{"LANG": "C"}, false, true, true},
		{"LC_ALL wins", map[string]string{"LANG": "C", "LC_ALL": "C.UTF-8"}, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := env{stdout: terminal, lookup: func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }}
			if tt.piped {
				e.stdout = new(bytes.Buffer)
			}
			text := checkCommand{Output: "text"}.printer(e).(*check.Text)
			if text.Colour != tt.colour || text.ASCII != tt.ascii {
				t.Errorf("%+v", text)
			}
		})
	}
	if _, ok := (checkCommand{Output: "json"}.printer(env{}).(check.JSON)); !ok {
		t.Error("no JSON")
	}
}

func TestAnInterruptedCheckFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := exitCode(verdict(ctx, check.Report{ExitCode: 4})); got != exitFailure {
		t.Errorf("exit code %d", got)
	}
	if got := exitCode(verdict(t.Context(), check.Report{ExitCode: 4})); got != 4 {
		t.Errorf("exit code %d", got)
	}
	if err := verdict(t.Context(), check.Report{OK: true}); err != nil {
		t.Error(err)
	}
}

func TestACredentialThatCannotBeMadeIsNoToken(t *testing.T) {
	l := newLogins()
	_, err := l.login(t.Context(), config.Identity{Name: "x", Credential: "client-certificate", TenantID: "t", ClientID: "c", CertificateFile: "/nowhere"}, "s")
	if err == nil || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
