package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// isolate lets the binary run without a network, or without any file but its
// own and the certificates. It reports false where that is not permitted.
func (s *stage) isolate(row string) bool {
	attr := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	}
	program := binary
	switch row {
	case "imds-unreachable", "network-unreachable":
		attr.Cloneflags |= syscall.CLONE_NEWNET
	default:
		attr.Chroot = s.emptyRoot()
		program = "/entra-sidecar"
		s.env["SSL_CERT_FILE"] = "/ca.pem"
	}
	s.isolated = func(c *exec.Cmd) { c.Path, c.SysProcAttr = program, attr }
	return s.command(s.t.Context(), "version").Run() == nil
}

// emptyRoot is what an image from scratch comes to: the binary, certificates
// and, from the container's runtime, /dev/null.
func (s *stage) emptyRoot() string {
	root := s.t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	for name, source := range map[string]string{"entra-sidecar": binary, "ca.pem": s.azure.BundleFile, "dev/null": os.DevNull} {
		content, err := os.ReadFile(source)
		if err == nil {
			err = os.WriteFile(filepath.Join(root, name), content, 0o755)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return root
}
