package azure

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// emulatedNames are the public names that a client may dial through the
// emulator's CONNECT proxy. Like Azure's own certificates, ours covers no
// name under privatelink.
var emulatedNames = []string{
	"*.openai.azure.com",
	"*.openai.azure.us",
	"*.openai.azure.cn",
	"*.cognitiveservices.azure.com",
	"*.services.ai.azure.com",
	"*.api.cognitive.microsoft.com",
	"login.microsoftonline.com",
	"login.microsoftonline.us",
	"login.chinacloudapi.cn",
}

// systemRoots are the places where distributions keep the public CAs.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// certificates is the emulator's own CA and the one leaf that it signed.
type certificates struct {
	ca   []byte // PEM
	leaf tls.Certificate
}

// newCertificates makes a CA and a leaf for loopback, the emulated names and
// hosts, valid from an hour ago (clocks differ) for thirty days.
func newCertificates(hosts []string) (*certificates, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := template("Azure emulator CA")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leafTemplate(hosts), ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	return &certificates{
		ca:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		leaf: tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key},
	}, nil
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // crypto/rand never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(30 * 24 * time.Hour),
	}
}

func leafTemplate(hosts []string) *x509.Certificate {
	t := template("Azure emulator")
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.DNSNames = append([]string{"localhost"}, emulatedNames...)
	t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	return t
}

// write puts the CA into caFile, and the CA together with the system's roots
// into bundleFile: SSL_CERT_FILE replaces the roots, and a client usually
// still needs those.
func (c *certificates) write(caFile, bundleFile string) error {
	if err := os.WriteFile(caFile, c.ca, 0o644); err != nil {
		return fmt.Errorf("writing the CA: %w", err)
	}
	bundle := bytes.Clone(c.ca)
	for _, file := range systemRoots {
		if roots, err := os.ReadFile(file); err == nil {
			bundle = append(bundle, roots...)
			break
		}
	}
	if err := os.WriteFile(bundleFile, bundle, 0o644); err != nil {
		return fmt.Errorf("writing the CA bundle: %w", err)
	}
	return nil
}
