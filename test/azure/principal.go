package azure

import (
	"crypto/x509"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Principal is an identity that the emulator's Entra knows.
type Principal struct {
	TenantID string
	ClientID string
	ObjectID string
	UPN      string // of a person; empty for an application
	// ClientSecret permits the client secret credential; empty: none.
	ClientSecret string
	// Certificate permits the client certificate credential; nil: none.
	Certificate *x509.Certificate
	// Issuer and Subject are those of the federated credential; empty: any.
	Issuer, Subject string
}

// DefaultPrincipal is who everyone is unless [Options.Principals] says otherwise.
func DefaultPrincipal() Principal {
	return Principal{
		TenantID:     "11111111-1111-4111-8111-111111111111",
		ClientID:     "22222222-2222-4222-8222-222222222222",
		ObjectID:     "33333333-3333-4333-8333-333333333333",
		ClientSecret: "emulated-client-secret",
	}
}

// principal finds who has clientID; the empty one belongs to the first.
func (e *Emulator) principal(clientID string) (Principal, bool) {
	if clientID == "" {
		return e.principals[0], true
	}
	for _, p := range e.principals {
		if strings.EqualFold(p.ClientID, clientID) {
			return p, true
		}
	}
	return Principal{}, false
}

// FederatedToken makes an assertion that proves to be p, such as kubelet writes
// to AZURE_FEDERATED_TOKEN_FILE. A negative life makes an expired one.
func (e *Emulator) FederatedToken(p Principal, life time.Duration) (string, error) {
	return e.signer.sign(jwt.RegisteredClaims{
		Issuer:    orElse(p.Issuer, "https://oidc.emulated.example/"),
		Subject:   orElse(p.Subject, "system:serviceaccount:default:litellm"),
		Audience:  jwt.ClaimStrings{federatedAudience},
		IssuedAt:  jwt.NewNumericDate(time.Now()),
		ExpiresAt: jwt.NewNumericDate(time.Now().Add(life)),
	})
}

// grant is an issued token with what the answer around it says.
type grant struct {
	token   string
	claims  TokenClaims
	expires time.Time // as promised; the token itself may disagree
}

// grantFor issues a token in the way of how.
func (e *Emulator) grantFor(p Principal, audience string, how Tokens) (grant, error) {
	name := p.ClientID + " " + audience
	if g, ok := e.reused.get(name, how); ok {
		return g, nil
	}
	life := how.life()
	if how.Expired {
		life = -time.Minute
	}
	token, claims, err := e.signer.issue(p, audience, life)
	g := grant{token: token, claims: claims, expires: claims.IssuedAt.Add(how.life())}
	e.reused.put(name, g)
	return g, err
}

// reusedTokens are the latest grants, for [Tokens.Reuse].
type reusedTokens struct {
	mu     sync.Mutex
	grants map[string]grant // by principal and audience
}

func (r *reusedTokens) get(name string, how Tokens) (grant, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.grants[name]
	left := time.Until(g.expires)
	return g, ok && how.Reuse && left > how.life()/10
}

func (r *reusedTokens) put(name string, g grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grants == nil {
		r.grants = map[string]grant{}
	}
	r.grants[name] = g
}
