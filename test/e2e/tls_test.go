package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"entra-sidecar/test/azure"
)

// clientOf trusts what is in a PEM file, and nothing else.
func clientOf(t *testing.T, bundle string) *http.Client {
	t.Helper()
	content, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		t.Fatalf("no certificate in %s", bundle)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func tlsStatus(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	res, err := client.Post(url+chatPath, "application/json", strings.NewReader(`{"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

func TestTheTLSListenerServesWithACertificateOfItsOwn(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	bundle := filepath.Join(t.TempDir(), "ca-bundle.pem")
	arguments := []string{"--tls-listen", "127.0.0.1:0", "--tls-self-signed", "--tls-ca-bundle-file", bundle}
	first := startReady(t, e, arguments...)
	client := clientOf(t, bundle)
	for _, url := range []string{first.secure, strings.Replace(first.secure, "127.0.0.1", "localhost", 1)} {
		if status := tlsStatus(t, client, url); status != http.StatusOK {
			t.Errorf("%s answers %d", url, status)
		}
	}
	content, err := os.ReadFile(bundle)
	if err != nil || strings.Count(string(content), "BEGIN CERTIFICATE") < 2 || strings.Contains(string(content), "PRIVATE KEY") {
		t.Errorf("the bundle must hold our authority, the public ones, and no key: %v", err)
	}
	if info, err := os.Stat(bundle + ".key"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key must be readable to its owner only: %v %v", info, err)
	}

	ws, _, err := websocket.Dial(t.Context(), "wss"+strings.TrimPrefix(first.secure, "https")+realtimePath, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if _, _, err := ws.Read(t.Context()); err != nil {
		t.Error(err)
	}

	// A client has read the bundle once: a restart of the sidecar must not ask for more.
	second := startReady(t, e, arguments...)
	if status := tlsStatus(t, client, second.secure); status != http.StatusOK {
		t.Errorf("after a restart: %d", status)
	}
}

func TestTheTLSListenerReadsARenewedCertificate(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writeCertificate(t, certFile, keyFile, 1)
	s := startReady(t, e, "--tls-listen", "127.0.0.1:0", "--tls-cert-file", certFile, "--tls-key-file", keyFile)

	serial := func() int64 {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.secure, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial number %d", got)
	}
	if err := os.WriteFile(certFile, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 1 {
		t.Errorf("a certificate that cannot be read replaced a good one: serial number %d", got)
	}
	writeCertificate(t, certFile, keyFile, 2)
	if got := serial(); got != 2 {
		t.Errorf("serial number %d after the renewal", got)
	}
}

func TestOperationLocationHasTheSchemeOfTheClient(t *testing.T) {
	t.Parallel()
	e := newAzure(t, azure.Faults{})
	bundle := filepath.Join(t.TempDir(), "ca-bundle.pem")
	s := startReady(t, e, "--tls-listen", "127.0.0.1:0", "--tls-self-signed", "--tls-ca-bundle-file", bundle)
	client := clientOf(t, bundle)
	for _, base := range []string{s.url, s.secure} {
		res, err := client.Post(base+"/documentintelligence/documentModels/prebuilt-read:analyze?api-version=2024-11-30",
			"application/json", strings.NewReader(`{"urlSource":"https://example.com/a.pdf"}`))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		location := res.Header.Get("Operation-Location")
		if res.StatusCode != http.StatusAccepted || !strings.HasPrefix(location, base+"/documentintelligence/") {
			t.Errorf("%s: %s, Operation-Location %q", base, res.Status, location)
			continue
		}
		polled, err := client.Get(location)
		if err != nil {
			t.Fatal(err)
		}
		polled.Body.Close()
		if polled.StatusCode != http.StatusOK {
			t.Errorf("polling %s: %s", location, polled.Status)
		}
	}
}

func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		keyFile:  {Type: "PRIVATE KEY", Bytes: keyDER},
		certFile: {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
