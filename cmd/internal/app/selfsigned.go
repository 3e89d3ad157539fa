package app

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// selfSignedLife is long because nobody renews the certificate: it is good for
// loopback names only, and its authority's key is thrown away.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// selfSigned returns a certificate for this machine's loopback names and writes
// its authority, together with the system's, to bundleFile for the client's
// SSL_CERT_FILE.
//
// The certificate is kept beside the bundle: a client reads the bundle once, and
// would not trust a new certificate after a restart of the sidecar alone.
func selfSigned(bundleFile string, logger *zap.Logger) (*tls.Certificate, error) {
	keptFile := bundleFile + ".key"
	kept, err := os.ReadFile(keptFile)
	if bundleFile == "" || errors.Is(err, fs.ErrNotExist) {
		if kept, err = newSelfSigned(time.Now()); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(kept, kept)
	if err != nil || bundleFile == "" {
		return &certificate, err
	}
	if err := writeFile(keptFile, kept, 0o600); err != nil {
		return nil, err
	}
	return &certificate, writeBundle(bundleFile, certificate, logger)
}

// newSelfSigned returns a leaf certificate, its authority's, and the leaf's key
// as PEM. Clients such as rustls refuse an authority as a leaf, hence two.
func newSelfSigned(now time.Time) ([]byte, error) {
	authority := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "entra-sidecar loopback authority"},
		NotBefore:             now.Add(-time.Hour), // clocks differ
		NotAfter:              now.Add(selfSignedLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return encodeChain(leaf, authority, key, authorityKey)
}

func encodeChain(leaf, authority *x509.Certificate, key, authorityKey *ecdsa.PrivateKey) ([]byte, error) {
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	if authority, err = x509.ParseCertificate(authorityDER); err != nil { // with its key identifier
		return nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, block := range []pem.Block{
		{Type: "CERTIFICATE", Bytes: leafDER},
		{Type: "CERTIFICATE", Bytes: authorityDER},
		{Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := pem.Encode(&out, &block); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func newSerial() *big.Int {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil { // crypto/rand does not fail
		panic(err)
	}
	return serial
}

// systemBundles are where Linux distributions and container images keep the
// public authorities. Go offers no way to read those that it loaded.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// writeBundle writes the certificate's authority and the public ones: a client
// that is given SSL_CERT_FILE trusts nothing else.
func writeBundle(name string, certificate tls.Certificate, logger *zap.Logger) error {
	authority := certificate.Certificate[len(certificate.Certificate)-1]
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority})
	public := readFirst(append([]string{os.Getenv("SSL_CERT_FILE")}, systemBundles...), name)
	if public == nil {
		logger.Warn("no public authorities were found: a client that is given this bundle trusts the sidecar only", zap.String("file", name))
	}
	return writeFile(name, append(bundle, public...), 0o644)
}

// readFirst reads the first file that there is, but for the one to be written.
func readFirst(names []string, but string) []byte {
	for _, name := range names {
		if name == "" || name == but {
			continue
		}
		if content, err := os.ReadFile(name); err == nil {
			return content
		}
	}
	return nil
}

// writeFile replaces the file in one step, so that nobody reads half of it.
func writeFile(name string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once renamed
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
