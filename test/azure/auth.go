package azure

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// credentials are what a request shows: keys in any of the places where Azure
// looks for one, and the bearer.
type credentials struct {
	keys   []string
	bearer string
	token  *TokenClaims // of the bearer, if this emulator issued it
	err    error        // why the bearer is no good, apart from expiry
}

// keyHeaders and keyParameters are the places of a key.
var (
	keyHeaders    = []string{"Api-Key", "Ocp-Apim-Subscription-Key"}
	keyParameters = []string{"api-key", "subscription-key"}
)

// credentialsOf collects what r shows to resource res.
func (s *signer) credentialsOf(r *http.Request, res *Resource) credentials {
	var c credentials
	for _, name := range keyHeaders {
		if name == "Ocp-Apim-Subscription-Key" && res.SubscriptionKey != "" {
			continue // the front takes it away
		}
		c.keys = append(c.keys, r.Header.Values(name)...)
	}
	if strings.HasPrefix(r.URL.Path, "/anthropic/") {
		c.keys = append(c.keys, r.Header.Values("X-Api-Key")...)
	}
	query := r.URL.Query()
	for _, name := range keyParameters {
		c.keys = append(c.keys, query[name]...)
	}
	bearer := bearerOf(r)
	if bearer == "" {
		return c
	}
	if strings.Count(bearer, ".") != 2 && res.OpaqueBearer != "token" && takesKeyAsBearer(r.URL.Path) {
		c.keys = append(c.keys, bearer)
		return c
	}
	c.bearer = bearer
	claims, err := s.verify(bearer)
	c.err = err
	if err == nil || errors.Is(err, errRevoked) {
		c.token = &claims
	}
	return c
}

func bearerOf(r *http.Request) string {
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return bearer
}

// takesKeyAsBearer: the OpenAI SDKs put the key there on these paths.
func takesKeyAsBearer(path string) bool {
	for _, prefix := range []string{"/openai/v1/", "/models/", "/anthropic/", "/v1/", "/providers/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// authenticate is the resource's verdict on the credentials: a refusal, or whose
// token it was, which is nobody's in the case of a key.
func (r *Resource) authenticate(q *http.Request, c credentials) (holder *TokenClaims, refusal *Answer) {
	audiences := r.audiences(q.Host, q.URL.Path)
	switch {
	case len(c.keys) > 0 && (c.bearer == "" || r.KeyBesideToken != "token-wins"):
		return nil, r.checkKeys(c.keys)
	case c.bearer != "":
		return c.token, r.checkToken(q, c, audiences)
	case r.NoCredential == "subscription-key":
		return nil, refuse(http.StatusUnauthorized, bodyMissingSubscription)
	}
	return nil, refuseAudience(audiences)
}

func (r *Resource) checkKeys(keys []string) *Answer {
	for _, key := range keys {
		if key != r.key() {
			return refuse(http.StatusUnauthorized, bodyBadKey)
		}
	}
	if !r.KeyAuth {
		return refuse(http.StatusForbidden, bodyKeysDisabled)
	}
	return nil
}

func (r *Resource) checkToken(q *http.Request, c credentials, audiences []string) *Answer {
	if r.regional(q.Host) {
		return refuse(http.StatusBadRequest, bodySubdomain)
	}
	if errors.Is(c.err, errRevoked) && r.ChallengeRevoked {
		return challenge(audiences)
	}
	now := time.Now().Add(r.ClockOffset.Duration())
	if c.err != nil || !now.Before(c.token.ExpiresAt) || !accepts(audiences, c.token.Audience) {
		return refuseAudience(audiences)
	}
	if c.token.TenantID != r.TenantID {
		return refuse(http.StatusBadRequest, fmt.Sprintf(bodyTenant, c.token.TenantID))
	}
	return nil
}

func accepts(audiences []string, audience string) bool {
	for _, a := range audiences {
		if strings.TrimSuffix(a, "/") == strings.TrimSuffix(audience, "/") {
			return true
		}
	}
	return false
}

// authorize asks whether holder may do op. Keys may do everything.
func (r *Resource) authorize(holder *TokenClaims, op *operation) *Answer {
	if holder == nil {
		return nil
	}
	if r.RolesPending || (!r.permits(op.action) && r.PermissionDenied == "short") {
		return refuse(http.StatusUnauthorized, bodyPermissionShort)
	}
	if !r.permits(op.action) {
		return refusePermission(orElse(holder.UPN, holder.ObjectID), op)
	}
	return nil
}

// admitNetwork is the verdict of what stands before the resource: its network
// rules, and an API Management front.
func (r *Resource) admitNetwork(q *http.Request) *Answer {
	switch r.Network {
	case Firewall:
		return refuse(http.StatusForbidden, bodyFirewall)
	case PublicAccessOff:
		return refuse(http.StatusForbidden, bodyPublicAccess)
	case EndpointNotApproved:
		return refuse(http.StatusForbidden, bodyNotApproved)
	case VNetWrongHost:
		return refuse(http.StatusForbidden, bodyVNetHost)
	}
	if r.SubscriptionKey == "" {
		return nil
	}
	switch subscriptionKey(q.Header, q.URL.Query()) {
	case r.SubscriptionKey:
		return nil
	case "":
		return refuse(http.StatusUnauthorized, bodyMissingSubscription)
	}
	return refuse(http.StatusUnauthorized, bodyBadSubscription)
}

func subscriptionKey(header http.Header, query url.Values) string {
	return orElse(header.Get("Ocp-Apim-Subscription-Key"), query.Get("subscription-key"))
}
