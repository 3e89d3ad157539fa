package tokencache

import (
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// An Identity says which credential to use and with what.
type Identity struct {
	Name                string // for errors and logs
	Credential          string // the kind; empty: "default"
	TenantID            string
	ClientID            string
	ClientSecret        string
	CertificateFile     string
	CertificatePassword string
	TokenFile           string
	Authority           string // "public", "government", "china" or an https URL
}

// CredentialOptions are for all credentials of a process.
type CredentialOptions struct {
	Transport policy.Transporter // default: azcore's own
	Log       *AzureLog          // from ListenAzure; may be nil
}

// NewCredential returns the credential of an identity.
func NewCredential(id Identity, o CredentialOptions) (azcore.TokenCredential, error) {
	return nil, errors.New("TODO")
}

// sourceOf names the credential that answers.
func sourceOf(cred azcore.TokenCredential) string {
	if s, ok := cred.(interface{ Source() string }); ok {
		return s.Source()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", cred), "*azidentity.")
}
