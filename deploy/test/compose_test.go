package deploy

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeDir = root + "/deploy/compose"

// azureEnv is what a user has exported before `docker compose up`.
var azureEnv = []string{
	"HOME=/home/user",
	"AZURE_OPENAI_ENDPOINT=https://x.openai.azure.com",
	"AZURE_TENANT_ID=11111111-1111-1111-1111-111111111111",
	"AZURE_CLIENT_ID=22222222-2222-2222-2222-222222222222",
	"AZURE_CLIENT_SECRET=a-client-secret-of-tests",
}

// compose loads files as `docker compose` does: without files, compose.yaml and
// its override.
func compose(env []string, files ...string) (*types.Project, error) {
	var paths []string
	for _, file := range files {
		paths = append(paths, filepath.Join(composeDir, file))
	}
	options, err := cli.NewProjectOptions(paths, cli.WithWorkingDirectory(composeDir), cli.WithEnv(env), cli.WithDefaultConfigPath)
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

func mustCompose(t *testing.T, env []string, files ...string) *types.Project {
	t.Helper()
	project, err := compose(env, files...)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// environment is a service's, as its program sees it.
func environment(s types.ServiceConfig) (env []string) {
	for name, value := range s.Environment {
		if value != nil {
			env = append(env, name+"="+*value)
		}
	}
	return env
}

func TestEveryWayToComposeIsALiteLLMThatWaitsForItsSidecar(t *testing.T) {
	for name, files := range map[string][]string{
		"the demo":            nil,
		"az login":            {"compose.yaml", "azure-cli.yaml"},
		"a service principal": {"compose.yaml", "service-principal.yaml"},
		"a managed identity":  {"compose.yaml", "managed-identity.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			project := mustCompose(t, azureEnv, files...)
			litellm, sidecar := project.Services["litellm"], project.Services["sidecar"]
			if litellm.NetworkMode != "service:sidecar" {
				t.Errorf("LiteLLM's network is %q: it could not reach the sidecar's loopback", litellm.NetworkMode)
			}
			if litellm.DependsOn["sidecar"].Condition != types.ServiceConditionHealthy || sidecar.HealthCheck == nil {
				t.Error("LiteLLM does not wait for the sidecar's token")
			}
			checkPublished(t, project)
			checkLiteLLM(t, litellm)
			if s := configured(t, environment(sidecar)...); s.Listen != "127.0.0.1:4001" || s.Admin.Listen != ":4002" || len(s.Routes) != 1 {
				t.Errorf("the sidecar's settings: %+v", s)
			}
			if _, demo := project.Services["emulator"]; demo != (files == nil) {
				t.Errorf("the emulator runs: %v", demo)
			}
		})
	}
}

// checkPublished checks that nothing can be reached from other machines.
func checkPublished(t *testing.T, project *types.Project) {
	t.Helper()
	for name, service := range project.Services {
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s at %q", name, port.Published, port.HostIP)
			}
		}
	}
}

// checkLiteLLM checks that LiteLLM gets the very file that test/litellm runs.
func checkLiteLLM(t *testing.T, litellm types.ServiceConfig) {
	t.Helper()
	want, err := filepath.Abs(root + "/deploy/samples/chat/litellm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(litellm.Volumes) != 1 || litellm.Volumes[0].Source != want {
		t.Fatalf("LiteLLM mounts %+v, not %s", litellm.Volumes, want)
	}
	if i := slices.Index(litellm.Command, "--config"); i < 0 || litellm.Command[i+1] != litellm.Volumes[0].Target {
		t.Errorf("LiteLLM is started with %q, and its file is at %s", litellm.Command, litellm.Volumes[0].Target)
	}
	for _, v := range environment(litellm) {
		if strings.HasPrefix(v, "AZURE_") {
			t.Errorf("LiteLLM gets %s, which only the sidecar should have", v)
		}
	}
}

func TestAMissingValueIsNamedBeforeAnythingStarts(t *testing.T) {
	for file, names := range map[string][]string{
		"azure-cli.yaml":         {"AZURE_OPENAI_ENDPOINT"},
		"managed-identity.yaml":  {"AZURE_OPENAI_ENDPOINT"},
		"service-principal.yaml": {"AZURE_OPENAI_ENDPOINT", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"},
	} {
		for _, name := range names {
			env := slices.DeleteFunc(slices.Clone(azureEnv), func(v string) bool { return strings.HasPrefix(v, name+"=") })
			if _, err := compose(env, "compose.yaml", file); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s without %s: %v", file, name, err)
			}
		}
	}
	if _, err := compose([]string{"HOME=/home/user"}); err != nil {
		t.Errorf("the demo needs something from the environment: %v", err)
	}
}

// An empty AZURE_CLIENT_ID breaks the managed identity, so it must be absent.
func TestAnUnsetClientIDIsNotPassedOnAsEmpty(t *testing.T) {
	env := []string{"AZURE_OPENAI_ENDPOINT=https://x.openai.azure.com"}
	for _, v := range environment(mustCompose(t, env, "compose.yaml", "managed-identity.yaml").Services["sidecar"]) {
		if strings.HasPrefix(v, "AZURE_CLIENT_ID") {
			t.Errorf("the sidecar gets %q", v)
		}
	}
}

func TestTheImagesThatComposeBuildsAreInTheDockerfile(t *testing.T) {
	dockerfile := string(read(t, root+"/Dockerfile"))
	for _, files := range [][]string{nil, {"compose.yaml", "azure-cli.yaml"}} {
		for name, service := range mustCompose(t, azureEnv, files...).Services {
			if service.Build == nil {
				continue
			}
			if !strings.Contains(dockerfile, " AS "+service.Build.Target+"\n") {
				t.Errorf("%s is built from the target %q, which does not exist", name, service.Build.Target)
			}
			if service.Image != "" && service.Build.Target == "cli" && !strings.HasSuffix(service.Image, ":cli") {
				t.Errorf("the image with the CLI would overwrite %s", service.Image)
			}
		}
	}
}

// The demo's programs run here without containers: with the arguments and
// variables of the compose files, except that all are on this machine.
func TestTheDemosServicesFindEachOther(t *testing.T) {
	project := mustCompose(t, nil)
	dir := t.TempDir()
	local := strings.NewReplacer(
		"/run/azure-emulator", dir, "--host=emulator", "--host=127.0.0.1", "//emulator", "//127.0.0.1",
		":4010", freePort(t), ":4011", freePort(t), ":4012", freePort(t),
	)
	emulator := project.Services["emulator"]
	args := []string{"--authority-listen=127.0.0.1:0"}
	for _, arg := range emulator.Command {
		args = append(args, local.Replace(strings.Replace(arg, "=:", "=127.0.0.1:", 1)))
	}
	start(t, exec.Command(program(t, "azure-emulator"), args...), environment(emulator))

	admin := "127.0.0.1" + freePort(t)
	env := []string{"ENTRA_SIDECAR_LISTEN=127.0.0.1" + freePort(t)}
	for _, v := range environment(project.Services["sidecar"]) {
		env = append(env, local.Replace(v))
	}
	env = append(env, "ENTRA_SIDECAR_ADMIN_LISTEN="+admin)
	start(t, exec.Command(program(t, "entra-sidecar")), env)

	probe := project.Services["sidecar"].HealthCheck.Test // CMD /entra-sidecar healthcheck
	await(t, 20*time.Second, func() error {
		_, err := try(t, env, program(t, "entra-sidecar"), probe[2:]...)
		return err
	})
	s := configured(t, env...)
	if status, body := post(t, "http://"+s.Listen+chatPath, chatBody); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}
