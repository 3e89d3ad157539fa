package tokencache

import (
	"bytes"
	"context"
	"os"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// newClientCertificate returns a credential that follows its file: certificates
// live for months, and a sidecar should not have to be restarted for a new one.
func newClientCertificate(id Identity, o azcore.ClientOptions, _ CredentialOptions) (azcore.TokenCredential, error) {
	c := &certificateCredential{id: id, options: o}
	if err := c.load(); err != nil {
		return nil, id.problem("certificate_file", Describe(err))
	}
	return c, nil
}

type certificateCredential struct {
	id      Identity
	options azcore.ClientOptions

	mu   sync.Mutex // guards the following; not held over network I/O
	file []byte
	cred *azidentity.ClientCertificateCredential
}

func (c *certificateCredential) Source() string { return "ClientCertificateCredential" }

func (c *certificateCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return c.current().GetToken(ctx, o)
}

// current returns the credential for what the file holds now or, if that
// cannot be used, held last: files are not always replaced in one step.
func (c *certificateCredential) current() *azidentity.ClientCertificateCredential {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.load()
	return c.cred
}

// load reads the file and, if it has changed, makes a new credential from it.
func (c *certificateCredential) load() error {
	file, err := os.ReadFile(c.id.CertificateFile)
	if err != nil || bytes.Equal(file, c.file) {
		return err
	}
	certs, key, err := azidentity.ParseCertificates(file, []byte(c.id.CertificatePassword))
	if err != nil {
		return err
	}
	cred, err := azidentity.NewClientCertificateCredential(c.id.TenantID, c.id.ClientID, certs, key,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: c.options, DisableInstanceDiscovery: private(c.options)})
	if err == nil {
		c.file, c.cred = file, cred
	}
	return err
}
