package azure

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TokenClaims are the claims of an Entra access token that matter to Azure.
type TokenClaims struct {
	Audience  string    `json:"aud"`
	TenantID  string    `json:"tid"`
	ObjectID  string    `json:"oid"`
	AppID     string    `json:"appid"`
	UPN       string    `json:"upn,omitempty"`
	ID        string    `json:"uti"`    // unique for each token
	Serial    uint64    `json:"serial"` // the how-many-th token of this emulator, from 1
	IssuedAt  time.Time `json:"iat"`
	ExpiresAt time.Time `json:"exp"`
}

// entraClaims is the same on the wire, in the shape of a v1.0 token, which is
// what Entra issues for Azure's own resources.
type entraClaims struct {
	jwt.RegisteredClaims
	Audience     string `json:"aud"` // Entra writes a string, where golang-jwt would write a list
	AppID        string `json:"appid"`
	AppIDACR     string `json:"appidacr"`
	IdentityType string `json:"idtyp,omitempty"`
	ObjectID     string `json:"oid"`
	TenantID     string `json:"tid"`
	UPN          string `json:"upn,omitempty"`
	UniqueID     string `json:"uti"`
	Version      string `json:"ver"`
}

type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

// signer issues and verifies tokens. Tokens that verified once are remembered:
// an RSA operation per request would make the emulator the slowest part of
// every benchmark.
type signer struct {
	serial  atomic.Uint64
	revoked atomic.Uint64 // tokens with a serial up to this one are refused

	mu       sync.RWMutex           // guards the fields below
	keys     []signingKey           // the last one signs; all are published
	verified map[string]TokenClaims // by the whole token; emptied when it grows large
}

const maxVerified = 1024

// firstKey is shared by all emulators of a process, since it takes longer to
// make than all the rest of a start. Each gives it an identifier of its own, so
// that none accepts the tokens of another.
var firstKey = sync.OnceValues(newKey)

func newKey() (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	return key, nil
}

func newSigner() (*signer, error) {
	s := &signer{verified: map[string]TokenClaims{}}
	key, err := firstKey()
	s.adopt(key)
	return s, err
}

// rotate makes a new signing key. Earlier keys stay published, as Entra's do,
// so that earlier tokens stay good.
func (s *signer) rotate() error {
	key, err := newKey()
	if err == nil {
		s.adopt(key)
	}
	return err
}

func (s *signer) adopt(key *rsa.PrivateKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, signingKey{id: rand.Text(), private: key})
}

// revoke makes every token issued so far unacceptable.
func (s *signer) revoke() { s.revoked.Store(s.serial.Load()) }

// issue signs a token for p. The lifetime counts from now; expired tokens can
// be made with a negative one.
func (s *signer) issue(p Principal, audience string, life time.Duration) (string, TokenClaims, error) {
	now := time.Now().Truncate(time.Second)
	serial := s.serial.Add(1)
	claims := TokenClaims{
		Audience: audience, TenantID: p.TenantID, ObjectID: p.ObjectID, AppID: p.ClientID, UPN: p.UPN,
		ID: uniqueID(serial), Serial: serial, IssuedAt: now, ExpiresAt: now.Add(life),
	}
	token, err := s.sign(wireClaims(claims))
	return token, claims, err
}

func (s *signer) sign(claims jwt.Claims) (string, error) {
	s.mu.RLock()
	key := s.keys[len(s.keys)-1]
	s.mu.RUnlock()
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header["kid"], token.Header["x5t"] = key.id, key.id
	return token.SignedString(key.private)
}

func wireClaims(c TokenClaims) entraClaims {
	notBefore := c.IssuedAt
	if c.ExpiresAt.Before(notBefore) {
		notBefore = c.ExpiresAt.Add(-time.Hour)
	}
	w := entraClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    "https://sts.windows.net/" + c.TenantID + "/",
			Subject:   c.ObjectID,
			IssuedAt:  jwt.NewNumericDate(notBefore),
			NotBefore: jwt.NewNumericDate(notBefore),
			ExpiresAt: jwt.NewNumericDate(c.ExpiresAt),
		},
		Audience: c.Audience, AppID: c.AppID, AppIDACR: "2", ObjectID: c.ObjectID, TenantID: c.TenantID,
		UPN: c.UPN, UniqueID: c.ID, Version: "1.0",
	}
	if c.UPN == "" {
		w.IdentityType = "app"
	}
	return w
}

// uniqueID makes a uti of the usual 22 characters. It carries the serial, so
// that "every token issued so far" can be told from its successors, which the
// whole seconds of iat could not.
func uniqueID(serial uint64) string {
	var b [16]byte
	rand.Read(b[:8])
	binary.BigEndian.PutUint64(b[8:], serial)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func serialOf(uti string) uint64 {
	b, err := base64.RawURLEncoding.DecodeString(uti)
	if err != nil || len(b) != 16 {
		return 0
	}
	return binary.BigEndian.Uint64(b[8:])
}

var errRevoked = errors.New("token is revoked")

// verify returns the claims of a token that this signer made and has not
// revoked. It says nothing about expiry: what time it is, is the resource's to
// decide.
func (s *signer) verify(token string) (TokenClaims, error) {
	s.mu.RLock()
	claims, known := s.verified[token]
	s.mu.RUnlock()
	if !known {
		var err error
		if claims, err = s.parse(token); err != nil {
			return TokenClaims{}, err
		}
		s.remember(token, claims)
	}
	if claims.Serial <= s.revoked.Load() {
		return claims, errRevoked
	}
	return claims, nil
}

func (s *signer) parse(token string) (TokenClaims, error) {
	var w entraClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	if _, err := parser.ParseWithClaims(token, &w, s.publicKey); err != nil {
		return TokenClaims{}, err
	}
	if w.ExpiresAt == nil || w.IssuedAt == nil {
		return TokenClaims{}, jwt.ErrTokenInvalidClaims
	}
	return TokenClaims{
		Audience: w.Audience, TenantID: w.TenantID, ObjectID: w.ObjectID, AppID: w.AppID, UPN: w.UPN,
		ID: w.UniqueID, Serial: serialOf(w.UniqueID), IssuedAt: w.IssuedAt.Time, ExpiresAt: w.ExpiresAt.Time,
	}, nil
}

func (s *signer) publicKey(token *jwt.Token) (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i := slices.IndexFunc(s.keys, func(k signingKey) bool { return k.id == token.Header["kid"] })
	if i < 0 {
		return nil, jwt.ErrTokenUnverifiable
	}
	return s.keys[i].private.Public(), nil
}

func (s *signer) remember(token string, claims TokenClaims) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.verified) >= maxVerified {
		clear(s.verified)
	}
	s.verified[token] = claims
}

// jwks is the key set in the shape of RFC 7517.
func (s *signer) jwks() object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]object, len(s.keys))
	for i, k := range s.keys {
		public := k.private.PublicKey
		keys[i] = object{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.id, "x5t": k.id,
			"n": base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
		}
	}
	return object{"keys": keys}
}
