package app

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"entra-sidecar/config"
)

// A certificateSource answers TLS handshakes with the certificate in two files,
// and reads them again when they change, which is how Kubernetes and
// cert-manager renew one.
type certificateSource struct {
	certFile, keyFile string
	logger            *zap.Logger

	mu      sync.Mutex
	current *tls.Certificate
	seen    fileStamps
}

// fileStamps tell whether a pair of files has changed.
type fileStamps struct{ cert, key fileStamp }

type fileStamp struct {
	modified time.Time
	size     int64
}

func newCertificateSource(c config.TLS, logger *zap.Logger) (*certificateSource, error) {
	s := &certificateSource{certFile: c.CertFile, keyFile: c.KeyFile, logger: logger}
	if c.SelfSigned {
		certificate, err := selfSigned(c.CABundleFile, logger)
		if err != nil {
			return nil, fmt.Errorf("tls.self_signed: %w", err)
		}
		s.current = certificate
		return s, nil
	}
	if err := s.reload(); err != nil {
		return nil, fmt.Errorf("tls.cert_file: %w", err)
	}
	return s, nil
}

// get implements [tls.Config.GetCertificate]. A pair that cannot be read, or
// that is half written, leaves the old one in use.
func (s *certificateSource) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certFile == "" {
		return s.current, nil
	}
	if stamps, err := s.stamps(); err == nil && stamps != s.seen {
		if err := s.reload(); err != nil {
			s.logger.Warn("the new certificate cannot be used, the old one stays", zap.Error(err))
		} else {
			s.logger.Info("the certificate was read again", zap.String("file", s.certFile))
		}
	}
	return s.current, nil
}

func (s *certificateSource) reload() error {
	stamps, err := s.stamps() // before reading: a change in between is seen next time
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return err
	}
	s.current, s.seen = &certificate, stamps
	return nil
}

func (s *certificateSource) stamps() (fileStamps, error) {
	cert, certErr := stamp(s.certFile)
	key, keyErr := stamp(s.keyFile)
	return fileStamps{cert, key}, cmp.Or(certErr, keyErr)
}

func stamp(name string) (fileStamp, error) {
	info, err := os.Stat(name)
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{info.ModTime(), info.Size()}, nil
}
