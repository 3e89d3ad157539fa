package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validate checks what is set, completes what follows from it, and reads the
// inbound keys.
func (l *loader) validate() {
	l.validateRoutes()
	l.validateIdentities()
	l.validateEnvironment()
	l.validateTLS()
	l.validateInbound()
	l.validateListeners()
	l.validateDurations()
	l.oneOf("log.level", l.config.Log.Level, "debug", "info", "warn", "error")
	if l.config.Log.Format != "" {
		l.oneOf("log.format", l.config.Log.Format, "json", "console")
	}
}

func (l *loader) oneOf(setting, text string, known ...string) {
	if !slices.Contains(known, text) {
		l.problem(setting, "%s is none of %s", show(text), strings.Join(known, ", "))
	}
}

func (l *loader) validateDurations() {
	for _, s := range Settings() {
		if s.index == nil {
			continue
		}
		d, ok := reflect.ValueOf(l.config).Elem().FieldByIndex(s.index).Interface().(time.Duration)
		switch {
		case ok && d < 0:
			l.problem(s.Name, "must not be negative")
		case ok && d == 0 && s.Name != "drain_timeout":
			l.problem(s.Name, "must be more than 0")
		}
	}
}

func (l *loader) validateTLS() {
	t := l.config.TLS
	const noListener = "has no effect without tls.listen: write where to listen, such as 127.0.0.1:4443"
	switch {
	case t.Listen == "" && t.SelfSigned:
		l.problem("tls.self_signed", noListener)
	case t.Listen == "" && t.CertFile != "":
		l.problem("tls.cert_file", noListener)
	case t.Listen != "" && !t.SelfSigned && t.CertFile == "" && t.KeyFile == "":
		l.problem("tls.listen", "needs a certificate: set tls.self_signed to true, or tls.cert_file and tls.key_file")
	case t.SelfSigned && t.CertFile != "":
		l.problem("tls.self_signed", "contradicts tls.cert_file: remove one of the two")
	}
	if t.CertFile != "" && t.KeyFile == "" {
		l.problem("tls.cert_file", "needs the private key: set tls.key_file")
	}
	if t.CertFile == "" && t.KeyFile != "" {
		l.problem("tls.key_file", "needs the certificate: set tls.cert_file")
	}
	if t.CABundleFile != "" && !t.SelfSigned {
		l.problem("tls.ca_bundle_file", "has no effect without tls.self_signed: remove it, or set that to true")
	}
	l.readable("tls.cert_file", t.CertFile)
	l.readable("tls.key_file", t.KeyFile)
}

// readable reports a file that cannot be opened, while there is still somebody
// who looks.
func (l *loader) readable(setting, name string) {
	if name == "" {
		return
	}
	f, err := os.Open(name)
	if err != nil {
		l.problem(setting, "cannot be read: %v", reason(err))
		return
	}
	_ = f.Close()
}

// validateInbound gathers the inbound keys.
func (l *loader) validateInbound() {
	in := &l.config.Inbound
	if in.KeysFile != "" {
		in.Keys = l.readKeys(in.KeysFile)
	}
	if in.Key != "" {
		l.checkKey("inbound.key", "", in.Key.Reveal())
		in.Keys = append(in.Keys, in.Key)
	}
}

func (l *loader) readKeys(name string) (keys []Secret) {
	const setting = "inbound.keys_file"
	content, err := os.ReadFile(name)
	if err != nil {
		l.problem(setting, "cannot be read: %v", reason(err))
		return nil
	}
	text := strings.TrimPrefix(string(content), "\ufeff") // some editors begin a file with a byte order mark
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		l.checkKey(setting, fmt.Sprintf("line %d ", i+1), line)
		keys = append(keys, Secret(line))
	}
	if keys == nil {
		l.problem(setting, "holds no key: write one a line")
	}
	if info, err := os.Stat(name); err == nil && info.Mode()&0o004 != 0 {
		l.warn(setting, "can be read by every user: chmod o-r it (on a Kubernetes volume, defaultMode: 0440)")
	}
	return keys
}

// minKey is a length below which a key can be guessed.
const minKey = 16

func (l *loader) checkKey(setting, line, key string) {
	switch {
	case strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }):
		l.problem(setting, "%sholds white space, or a character that a header cannot: remove it", line)
	case len(key) < minKey:
		l.warn(setting, "%sis a key of less than %d characters, which can be guessed: `openssl rand -hex 32` makes a good one", line, minKey)
	}
}

// validateListeners also keeps an open listener from lending its identity to
// everybody who finds it.
func (l *loader) validateListeners() {
	c := l.config
	var taken []address
	for _, a := range []address{{setting: "listen", text: c.Listen}, {setting: "tls.listen", text: c.TLS.Listen}, {setting: "admin.listen", text: c.Admin.Listen}} {
		if a.text == "" {
			continue
		}
		if problem := a.parse(); problem != "" {
			l.problem(a.setting, "%s", problem)
			continue
		}
		if a.setting != "admin.listen" && !isLoopback(a.host) {
			l.validateOpen(a.setting)
		}
		if i := slices.IndexFunc(taken, a.clashes); i >= 0 {
			l.problem(a.setting, "has the port of %s: choose another", taken[i].setting)
		}
		taken = append(taken, a)
	}
}

func (l *loader) validateOpen(setting string) {
	switch in := l.config.Inbound; {
	case in.KeysFile != "" || in.Key != "":
	case in.InsecureAllowAnonymous:
		l.warn(setting, "anybody who reaches this address uses the sidecar's identity")
	default:
		l.problem(setting, "others can reach this address and would use your identity: listen on 127.0.0.1, "+
			"or ask for a key with inbound.keys_file or ENTRA_SIDECAR_INBOUND_KEY (or, if that is meant, set --insecure-allow-anonymous)")
	}
}

// An address is where to listen.
type address struct {
	setting, text string

	host string // empty for all interfaces
	port uint16 // 0 for any that is free
}

var hostname = regexp.MustCompile(`^[A-Za-z0-9.:%_-]*$`)

// parse sets host and port, or returns what is wrong.
func (a *address) parse() (problem string) {
	host, port, err := net.SplitHostPort(a.text)
	if err != nil || !hostname.MatchString(host) {
		return show(a.text) + " is not an address: write host and port, such as 127.0.0.1:4001 or [::1]:4001"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return show(a.text) + " has no number from 0 to 65535 as its port: write one, such as 127.0.0.1:4001"
	}
	a.host, a.port = host, uint16(n)
	return ""
}

// clashes reports whether only one of two addresses can be listened on.
func (a *address) clashes(b address) bool {
	same := strings.EqualFold(a.host, b.host) || isLoopback(a.host) && isLoopback(b.host)
	return a.port == b.port && a.port != 0 && (same || a.all() || b.all())
}

func (a *address) all() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.host == "" || err == nil && ip.IsUnspecified()
}
