package deploy

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	nonRoot     = 65532
	testVersion = "1.2.3-test"
	maxImage    = 15 << 20 // bytes, compressed
)

// A builder makes images with buildah, in a storage of its own, from stand-ins
// for the public base images: no registry is asked for anything.
type builder struct {
	t       *testing.T
	buildah []string
	volumes []string
}

func newBuilder(t *testing.T) *builder {
	t.Helper()
	buildah := tool(t, "buildah", "buildah")
	busybox := tool(t, "busybox", "busybox-static")
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("images are built and run in a chroot, for which this must run as root")
		}
		t.Skip("images are built and run in a chroot, for which this must run as root")
	}
	run(t, nil, "go", "-C", root, "mod", "download") // what the build will ask for, without a network
	dir, goenv := t.TempDir(), strings.Fields(run(t, nil, "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE"))
	b := &builder{
		t:       t,
		buildah: []string{buildah, "--root", dir + "/storage", "--runroot", dir + "/run", "--storage-driver", "vfs"},
		volumes: []string{
			goenv[0] + ":/usr/local/go:ro",
			filepath.Join(goenv[1], "cache/download") + ":/proxy:ro", // is laid out as a module proxy
			goenv[2] + ":/cache",
		},
	}
	b.standIn(busybox)
	return b
}

func (b *builder) run(args ...string) string {
	b.t.Helper()
	return strings.TrimSpace(run(b.t, nil, b.buildah[0], append(b.buildah[1:], args...)...))
}

// standIn makes the image that takes the place of Go's and of the Azure CLI's.
// Its az prints what lies in the CLI's directory.
func (b *builder) standIn(busybox string) {
	b.t.Helper()
	container := b.run("from", "scratch")
	rootfs := b.run("mount", container)
	write(b.t, rootfs+"/bin/busybox", read(b.t, busybox))
	write(b.t, rootfs+"/etc/ssl/certs/ca-certificates.crt", read(b.t, "/etc/ssl/certs/ca-certificates.crt"))
	write(b.t, rootfs+"/usr/bin/az", []byte("#!/bin/sh\nexec cat \"$AZURE_CONFIG_DIR/answer.json\"\n"))
	for _, name := range []string{"sh", "mkdir", "cat"} {
		if err := os.Symlink("busybox", rootfs+"/bin/"+name); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, dir := range []string{"/tmp", "/root", "/azure", "/dev"} {
		if err := os.Mkdir(rootfs+dir, 0o777); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, name := range []string{"/bin/busybox", "/usr/bin/az", "/tmp", "/azure"} {
		if err := os.Chmod(rootfs+name, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	b.run("config", "--env", "PATH=/usr/local/go/bin:/usr/bin:/bin", "--env", "GOPROXY=file:///proxy", "--env", "GOSUMDB=off",
		"--env", "GOTOOLCHAIN=local", "--env", "GOCACHE=/cache", container)
	b.run("commit", "--rm", container, "localhost/stand-in")
}

// build builds a target of the Dockerfile, for an architecture.
func (b *builder) build(target, architecture string) *image {
	b.t.Helper()
	name := "localhost/" + target + ":" + architecture
	args := []string{"build", "--isolation", "chroot", "--format", "docker", "--platform", "linux/" + architecture,
		"--build-arg", "BUILDPLATFORM=linux/" + runtime.GOARCH, // which old versions of buildah do not set themselves
		"--build-arg", "GO_IMAGE=localhost/stand-in", "--build-arg", "AZURE_CLI_IMAGE=localhost/stand-in",
		"--build-arg", "VERSION=" + testVersion, "--build-arg", "REVISION=abc", "--target", target, "--tag", name}
	for _, volume := range b.volumes {
		args = append(args, "--volume", volume)
	}
	began := time.Now()
	b.run(append(args, root)...)
	b.t.Logf("%s was built in %s", name, time.Since(began).Round(time.Second))
	return b.open(name)
}

// An image is a built one with its files laid out.
type image struct {
	name   string
	rootfs string
	config imageConfig
	arch   string
}

type imageConfig struct {
	User         string
	Env          []string
	Entrypoint   []string
	ExposedPorts map[string]struct{}
	Labels       map[string]string
	Healthcheck  struct{ Test []string }
}

func (b *builder) open(name string) *image {
	b.t.Helper()
	var inspected struct {
		Docker struct {
			Config       imageConfig `json:"config"`
			Architecture string      `json:"architecture"`
		}
	}
	if err := json.Unmarshal([]byte(b.run("inspect", "--type", "image", name)), &inspected); err != nil {
		b.t.Fatal(err)
	}
	container := b.run("from", "--pull-never", name)
	return &image{name, b.run("mount", container), inspected.Docker.Config, inspected.Docker.Architecture}
}

// command runs a program as a container would: with the image's files as root,
// its user, its environment, and nothing else of this machine's but the network.
func (i *image) command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(slices.Clone(i.config.Env), env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     i.rootfs,
		Credential: &syscall.Credential{Uid: nonRoot, Gid: nonRoot},
	}
	return cmd
}

// files are all in the image, directories only if empty.
func (i *image) files(t *testing.T) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(i.rootfs), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if entries, _ := os.ReadDir(filepath.Join(i.rootfs, path)); len(entries) > 0 {
				return nil
			}
		}
		names = append(names, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestTheImages(t *testing.T) {
	b := newBuilder(t)
	sidecar, emulator := b.build("sidecar", runtime.GOARCH), b.build("emulator", runtime.GOARCH)
	t.Run("the sidecar's image holds the binary and the authorities only", sidecar.checkFiles)
	t.Run("it says what it is and runs as nobody in particular", sidecar.checkConfig)
	t.Run("it is small", func(t *testing.T) { b.checkSize(t, sidecar) })
	t.Run("the same source gives the same bytes elsewhere", sidecar.checkReproducible)
	t.Run("it serves, and tells its health", func(t *testing.T) { checkServes(t, sidecar, emulator) })
	t.Run("the image with the Azure CLI uses the mounted login", func(t *testing.T) {
		(&builder{t, b.buildah, b.volumes}).build("cli", runtime.GOARCH).checkCLI(t, emulator)
	})
	t.Run("it is cross-compiled for arm64", func(t *testing.T) {
		arm := (&builder{t, b.buildah, b.volumes}).build("sidecar", "arm64")
		if file := arm.binary(t); file.Machine != elf.EM_AARCH64 || arm.arch != "arm64" {
			t.Errorf("the image is for %s, and the binary for %s", arm.arch, file.Machine)
		}
		b.checkSize(t, arm)
	})
}

func (i *image) checkFiles(t *testing.T) {
	want := []string{"entra-sidecar", "etc/ssl/certs/ca-certificates.crt", "run/entra-sidecar"}
	if got := i.files(t); !slices.Equal(got, want) {
		t.Errorf("it holds %v", got)
	}
	info, err := os.Stat(i.rootfs + "/run/entra-sidecar")
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != nonRoot {
		t.Errorf("/run/entra-sidecar is not the user's own: %v, %v", info, err)
	}
	for _, p := range i.binary(t).Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Error("the binary is not static")
		}
	}
}

func (i *image) binary(t *testing.T) *elf.File {
	t.Helper()
	file, err := elf.Open(i.rootfs + "/entra-sidecar")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func (i *image) checkConfig(t *testing.T) {
	c := i.config
	if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/entra-sidecar"}) {
		t.Errorf("it runs %v as %s", c.Entrypoint, c.User)
	}
	if !slices.Equal(c.Healthcheck.Test, []string{"CMD", "/entra-sidecar", "healthcheck"}) {
		t.Errorf("its health check is %v", c.Healthcheck.Test)
	}
	for _, label := range []string{"title", "description", "licenses", "version", "revision"} {
		if c.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("it has no label %s", label)
		}
	}
	for _, port := range []string{"4001/tcp", "4002/tcp"} {
		if _, ok := c.ExposedPorts[port]; !ok {
			t.Errorf("it does not expose %s", port)
		}
	}
}

func (b *builder) checkSize(t *testing.T, i *image) {
	dir := t.TempDir()
	b.run("push", i.name, "dir:"+dir)
	var size int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	t.Logf("%s: %.1f MB compressed", i.name, float64(size)/1e6)
	if size > maxImage {
		t.Errorf("it has %d bytes, and should have at most %d", size, maxImage)
	}
}

// checkReproducible compiles the same source in another place, by hand.
func (i *image) checkReproducible(t *testing.T) {
	const app = "entra-sidecar/cmd/internal/app"
	file := filepath.Join(t.TempDir(), "entra-sidecar")
	run(t, []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false"}, "go", "-C", root, "build",
		"-ldflags", "-s -w -X "+app+".version="+testVersion+" -X "+app+".revision=abc", "-o", file, "./cmd/entra-sidecar")
	if sha256.Sum256(read(t, file)) != sha256.Sum256(read(t, i.rootfs+"/entra-sidecar")) {
		t.Error("the binary in the image differs from one that was built outside")
	}
}

// A running emulator, in its own image.
type azure struct{ url, identity string }

func runEmulator(t *testing.T, i *image, shareCA string) azure {
	t.Helper()
	listen, identity := "127.0.0.1"+freePort(t), "127.0.0.1"+freePort(t)
	ca := "/run/azure-emulator/ca.pem"
	_ = os.Remove(i.rootfs + ca)
	start(t, i.command(t, nil, append(slices.Clone(i.config.Entrypoint), "--listen="+listen, "--identity-listen="+identity,
		"--control-listen=127.0.0.1:0", "--authority-listen=127.0.0.1:0", "--ca-file="+ca)...), nil)
	await(t, 20*time.Second, func() error {
		content, err := os.ReadFile(i.rootfs + ca)
		if err == nil && !bytes.HasSuffix(content, []byte("-----END CERTIFICATE-----\n")) {
			err = fmt.Errorf("%s is not complete", ca)
		}
		if err == nil {
			err = os.WriteFile(shareCA, content, 0o644)
		}
		return err
	})
	return azure{"https://" + listen, "http://" + identity + "/msi/token"}
}

func checkServes(t *testing.T, sidecar, emulator *image) {
	a := runEmulator(t, emulator, sidecar.rootfs+"/run/entra-sidecar/ca.pem")
	env := []string{"IDENTITY_ENDPOINT=" + a.identity, "IDENTITY_HEADER=emulated"}
	sidecar.checkRuns(t, a, "/run/entra-sidecar/ca.pem", env)
}

// checkRuns starts the image, and asks for its health, an answer of Azure's and
// its version, as users do.
func (i *image) checkRuns(t *testing.T, a azure, ca string, env []string) {
	t.Helper()
	proxy := "127.0.0.1" + freePort(t)
	env = append(env, "AZURE_OPENAI_ENDPOINT="+a.url, "SSL_CERT_FILE="+ca,
		"ENTRA_SIDECAR_LISTEN="+proxy, "ENTRA_SIDECAR_ADMIN_LISTEN=127.0.0.1"+freePort(t))
	healthy := func() error {
		out, err := i.command(t, env, i.config.Healthcheck.Test[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if healthy() == nil {
		t.Error("it is healthy before it was started")
	}
	serve := i.command(t, env, i.config.Entrypoint...)
	start(t, serve, nil)
	await(t, 20*time.Second, healthy)
	if status, body := post(t, "http://"+proxy+chatPath, chatBody); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	out, err := i.command(t, env, "/entra-sidecar", "version").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(testVersion)) {
		t.Errorf("its version is %s, %v", out, err)
	}
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := serve.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// checkCLI lets the CLI's stand-in answer with a token that the emulator takes.
func (i *image) checkCLI(t *testing.T, emulator *image) {
	const null = 1<<8 | 3 // which every container runtime provides, and os/exec needs
	if err := syscall.Mknod(i.rootfs+"/dev/null", syscall.S_IFCHR|0o666, null); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(i.rootfs+"/dev/null", 0o666); err != nil {
		t.Fatal(err)
	}
	a := runEmulator(t, emulator, i.rootfs+"/azure/ca.pem")
	write(t, i.rootfs+"/azure/answer.json", cliAnswer(t, a))
	if err := os.Chmod(i.rootfs+"/azure/answer.json", 0o644); err != nil {
		t.Fatal(err)
	}
	i.checkRuns(t, a, "/azure/ca.pem", []string{"AZURE_TOKEN_CREDENTIALS=AzureCLICredential"})
}

// cliAnswer is what `az account get-access-token` prints.
func cliAnswer(t *testing.T, a azure) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		a.identity+"?api-version=2019-08-01&resource=https://cognitiveservices.azure.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-IDENTITY-HEADER", "emulated")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&token); err != nil || token.AccessToken == "" {
		t.Fatalf("%s: %v", response.Status, err)
	}
	expires := time.Now().Add(time.Hour)
	return fmt.Appendf(nil, `{"accessToken":%q,"expires_on":%d,"expiresOn":%q,"tokenType":"Bearer"}`,
		token.AccessToken, expires.Unix(), expires.Format("2006-01-02 15:04:05.000000"))
}
