package azure

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	assertionType      = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	federatedAudience  = "api://AzureADTokenExchange"
	adfs               = "adfs" // MSAL skips instance discovery for this "tenant"
	defaultScopeSuffix = "/.default"
)

// knownResources are what tokens can be had for.
var knownResources = []string{
	"https://cognitiveservices.azure.com", "https://cognitiveservices.azure.us", "https://cognitiveservices.azure.cn",
	"https://ai.azure.com", "https://ml.azure.com", "https://management.azure.com",
}

// authority serves login.microsoftonline.com's endpoints, for every tenant
// that a principal belongs to, and for the pretended ADFS.
func (c *identityCall) authority() *Answer {
	tenant, endpoint, _ := strings.Cut(strings.TrimPrefix(c.r.URL.Path, "/"), "/")
	if endpoint == "discovery/instance" {
		return c.instanceDiscovery()
	}
	if !c.emulator.knowsTenant(tenant) {
		return c.aadstsError(90002, tenant)
	}
	switch endpoint {
	case "v2.0/.well-known/openid-configuration", ".well-known/openid-configuration":
		return c.openIDConfiguration(tenant)
	case "discovery/v2.0/keys", "discovery/keys":
		return jsonAnswer(http.StatusOK, c.emulator.signer.jwks())
	case "oauth2/v2.0/token", "oauth2/token":
		return c.token(tenant)
	}
	return refuse(http.StatusNotFound, `{"error":"not_found"}`)
}

func (e *Emulator) knowsTenant(tenant string) bool {
	return tenant == adfs || tenant == "common" || tenant == "organizations" ||
		slices.ContainsFunc(e.principals, func(p Principal) bool { return strings.EqualFold(p.TenantID, tenant) })
}

func (c *identityCall) base() string {
	if c.r.TLS != nil {
		return "https://" + c.r.Host
	}
	return "http://" + c.r.Host
}

func (c *identityCall) instanceDiscovery() *Answer {
	endpoint, err := url.Parse(c.form.Get("authorization_endpoint"))
	if err != nil || endpoint.Host == "" {
		return c.aadstsError(90002, c.form.Get("authorization_endpoint"))
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(endpoint.Path, "/"), "/")
	return jsonAnswer(http.StatusOK, object{
		"tenant_discovery_endpoint": "https://" + endpoint.Host + "/" + tenant + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata": []object{{
			"preferred_network": endpoint.Host, "preferred_cache": endpoint.Host, "aliases": []string{endpoint.Host},
		}},
	})
}

func (c *identityCall) openIDConfiguration(tenant string) *Answer {
	base := c.base() + "/" + tenant
	token, keys := base+"/oauth2/v2.0/token", base+"/discovery/v2.0/keys"
	if tenant == adfs {
		token, keys = base+"/oauth2/token", base+"/discovery/keys"
	}
	return jsonAnswer(http.StatusOK, object{
		"issuer":                                base + "/v2.0",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"token_endpoint":                        token,
		"device_authorization_endpoint":         base + "/oauth2/v2.0/devicecode",
		"jwks_uri":                              keys,
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt"},
	})
}

// token is the client credentials grant of RFC 6749, with Entra's checks in
// Entra's order: client, proof, scope.
func (c *identityCall) token(tenant string) *Answer {
	if grantType := c.form.Get("grant_type"); grantType != "client_credentials" {
		return c.aadstsError(70003, grantType)
	}
	p, ok := c.emulator.principal(c.form.Get("client_id"))
	if !ok || c.form.Get("client_id") == "" || !p.belongsTo(tenant) {
		return c.aadstsError(700016, c.form.Get("client_id"))
	}
	if refusal := c.proof(p); refusal != nil {
		return refusal
	}
	resource, ok := c.resource()
	if !ok {
		return c.aadstsError(70011, c.form.Get("scope"))
	}
	if !slices.Contains(knownResources, strings.TrimSuffix(resource, "/")) {
		return c.aadstsError(500011, resource)
	}
	return c.granted(p, resource)
}

func (p Principal) belongsTo(tenant string) bool {
	return tenant == adfs || strings.EqualFold(tenant, p.TenantID)
}

// resource is what the token is for. MSAL's scope list names it as
// RESOURCE/.default, among OpenID's own scopes.
func (c *identityCall) resource() (string, bool) {
	for scope := range strings.FieldsSeq(c.form.Get("scope")) {
		if resource, ok := strings.CutSuffix(scope, defaultScopeSuffix); ok {
			return resource, true
		}
	}
	return "", false
}

func (c *identityCall) granted(p Principal, resource string) *Answer {
	g, err := c.emulator.grantFor(p, resource, c.tokens)
	if err != nil {
		return refuse(http.StatusInternalServerError, `{"error":"server_error"}`)
	}
	c.issued = g.claims.ID
	seconds := int(time.Until(g.expires).Seconds())
	answer := object{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": g.token}
	if in := c.tokens.RefreshIn; in > 0 {
		answer["refresh_in"] = int(in)
	}
	return jsonAnswer(http.StatusOK, answer)
}

// proof checks how the client proves to be p; nil means well.
func (c *identityCall) proof(p Principal) *Answer {
	assertion := c.form.Get("client_assertion")
	switch {
	case assertion == "":
		if p.ClientSecret == "" || c.form.Get("client_secret") != p.ClientSecret {
			return c.aadstsError(7000215, p.ClientID)
		}
		return nil
	case c.form.Get("client_assertion_type") != assertionType:
		return c.aadstsError(50027, "")
	}
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(assertion, &claims); err != nil {
		return c.aadstsError(50027, "")
	}
	if claims.ExpiresAt == nil || !time.Now().Before(claims.ExpiresAt.Time) {
		return c.aadstsError(700024, expiryOf(claims))
	}
	if claims.Issuer == p.ClientID {
		return c.certificateProof(p, assertion)
	}
	return c.federatedProof(p, claims)
}

func expiryOf(claims jwt.RegisteredClaims) string {
	if claims.ExpiresAt == nil {
		return "none"
	}
	return claims.ExpiresAt.UTC().Format("2006-01-02T15:04:05.0000000Z")
}

// federatedProof compares the assertion of a foreign issuer, such as a
// cluster's service account token, with p's federated credential. Its signature
// is taken on trust: the issuer's keys are not here.
func (c *identityCall) federatedProof(p Principal, claims jwt.RegisteredClaims) *Answer {
	switch {
	case !slices.Contains(claims.Audience, federatedAudience):
		return c.aadstsError(7002121, strings.Join(claims.Audience, " "))
	case p.Issuer != "" && claims.Issuer != p.Issuer:
		return c.aadstsError(700211, claims.Issuer)
	case p.Subject != "" && claims.Subject != p.Subject:
		return c.aadstsError(700213, claims.Subject)
	}
	return nil
}

// certificateProof checks an assertion that p signed itself.
func (c *identityCall) certificateProof(p Principal, assertion string) *Answer {
	if p.Certificate == nil {
		return c.aadstsError(700027, p.ClientID)
	}
	key := func(*jwt.Token) (any, error) { return p.Certificate.PublicKey, nil }
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "PS256"}), jwt.WithSubject(p.ClientID))
	if _, err := parser.Parse(assertion, key); err != nil {
		return c.aadstsError(700027, p.ClientID)
	}
	return nil
}
