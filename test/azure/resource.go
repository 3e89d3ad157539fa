package azure

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Resource is the emulated Azure OpenAI resource: what its administrator could
// have set up differently. The zero value is a healthy resource with key
// authentication switched off, as companies have it.
type Resource struct {
	// TenantID is the tenant whose tokens are accepted. Default: the tenant of
	// the emulator's first principal.
	TenantID string `json:"tenant_id,omitzero"`
	// Audiences are the accepted token audiences, with or without a trailing
	// slash; a refusal names them as written here. Default: by host and path,
	// as in Azure.
	Audiences []string `json:"audiences,omitzero"`
	// Roles are granted to every principal. Default: a set that permits
	// everything. ["Owner"] permits nothing, as in Azure.
	Roles []string `json:"roles,omitzero"`
	// RolesPending makes the roles assigned but not yet effective.
	RolesPending bool `json:"roles_pending,omitzero"`
	// Key is the resource's own api-key. Default: [DefaultKey].
	Key string `json:"key,omitzero"`
	// KeyAuth permits authentication with Key (disableLocalAuth=false).
	KeyAuth bool `json:"key_auth,omitzero"`
	// SubscriptionKey puts an API Management front before the resource, which
	// demands this value as Ocp-Apim-Subscription-Key. Default: no front.
	SubscriptionKey string `json:"subscription_key,omitzero"`
	// Network is the network rule that requests run into. Default: none.
	Network Network `json:"network,omitzero"`
	// Regional makes every host one without a custom subdomain, which takes no
	// tokens. Hosts under api.cognitive.microsoft.com are so anyway.
	Regional bool `json:"regional,omitzero"`
	// Deployments are the names that exist. Default: [DefaultDeployments].
	// "*" stands for every name but "missing".
	Deployments []string `json:"deployments,omitzero"`
	// ClockOffset is how far the resource's clock is ahead of ours, in seconds.
	ClockOffset Seconds `json:"clock_offset,omitzero"`
	// ChallengeRevoked answers a revoked token with an insufficient_claims
	// challenge instead of the plain refusal.
	ChallengeRevoked bool `json:"challenge_revoked,omitzero"`

	Unsettled
}

// Unsettled are the points on which nobody has captured the real Azure. The
// zero value of each is the emulator's guess.
type Unsettled struct {
	// KeyBesideToken: a key next to a good token. "key-wins" (guess): the key is
	// judged, the token ignored. "token-wins": the reverse.
	KeyBesideToken string `json:"key_beside_token,omitzero"`
	// NoCredential: neither key nor token. "audience" (guess): the refusal of a
	// bad token. "subscription-key": the refusal that API Management sends.
	NoCredential string `json:"no_credential,omitzero"`
	// OpaqueBearer: a bearer that is no JWT, on v1 and Foundry paths. "key"
	// (guess): it is judged as a key. "token": it is a bad token.
	OpaqueBearer string `json:"opaque_bearer,omitzero"`
	// UnknownPath: where Azure looks at the path. "after-auth" (guess): a bad
	// credential is refused first. "before-auth": 404 comes first.
	UnknownPath string `json:"unknown_path,omitzero"`
	// DatedVersionOnV1: a dated api-version on /openai/v1. "refused" (guess):
	// 400. "accepted": ignored. "preview", "latest" and "v1" are always accepted.
	DatedVersionOnV1 string `json:"dated_version_on_v1,omitzero"`
	// AnthropicAudience: the audience of /anthropic. "either" (guess),
	// "cognitiveservices" or "ai".
	AnthropicAudience string `json:"anthropic_audience,omitzero"`
	// PermissionDenied: how a missing role is told. "detailed" (guess): with the
	// principal and the data action. "short": without.
	PermissionDenied string `json:"permission_denied,omitzero"`
}

// Network names a rule that keeps requests from the resource.
type Network string

const (
	Firewall            Network = "firewall"
	PublicAccessOff     Network = "public-access-disabled"
	EndpointNotApproved Network = "private-endpoint-not-approved"
	VNetWrongHost       Network = "vnet-wrong-host"
)

// DefaultKey is the resource's own api-key unless [Resource.Key] says otherwise.
const DefaultKey = "0123456789abcdef0123456789abcdef"

// DefaultDeployments are the deployments of the emulated resource, each named
// after its model.
func DefaultDeployments() []string {
	return []string{
		"gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "o3-mini", "gpt-35-turbo-instruct",
		"text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002",
		"whisper", "whisper-1", "gpt-4o-transcribe", "tts", "tts-1", "tts-hd", "gpt-4o-mini-tts",
		"dall-e-3", "gpt-image-1", "gpt-4o-realtime-preview", "gpt-realtime", "sora-2",
		"claude-sonnet-4-5", "Mistral-Large-3", "cohere-rerank-v3.5", "Cohere-embed-v3-english",
	}
}

// missingDeployment exists nowhere, so that a test can count on its absence.
const missingDeployment = "missing"

func (r *Resource) hasDeployment(name string) bool {
	if name == missingDeployment {
		return false
	}
	if r.Deployments == nil {
		return slices.Contains(DefaultDeployments(), name)
	}
	return slices.Contains(r.Deployments, name) || slices.Contains(r.Deployments, "*")
}

// validate refuses values that no check would ever look at, since a misspelt
// switch silently tests nothing.
func (r *Resource) validate() error {
	var problems []error
	for _, s := range []struct {
		name, value string
		known       []string
	}{
		{"network", string(r.Network), []string{string(Firewall), string(PublicAccessOff), string(EndpointNotApproved), string(VNetWrongHost)}},
		{"key_beside_token", r.KeyBesideToken, []string{"key-wins", "token-wins"}},
		{"no_credential", r.NoCredential, []string{"audience", "subscription-key"}},
		{"opaque_bearer", r.OpaqueBearer, []string{"key", "token"}},
		{"unknown_path", r.UnknownPath, []string{"after-auth", "before-auth"}},
		{"dated_version_on_v1", r.DatedVersionOnV1, []string{"refused", "accepted"}},
		{"anthropic_audience", r.AnthropicAudience, []string{"either", "cognitiveservices", "ai"}},
		{"permission_denied", r.PermissionDenied, []string{"detailed", "short"}},
	} {
		if s.value != "" && !slices.Contains(s.known, s.value) {
			problems = append(problems, fmt.Errorf("resource.%s is %q, not one of %s", s.name, s.value, strings.Join(s.known, ", ")))
		}
	}
	for _, role := range r.Roles {
		if _, known := grants[role]; !known {
			problems = append(problems, fmt.Errorf("resource.roles has %q, which the emulator does not know", role))
		}
	}
	return errors.Join(problems...)
}

func (r *Resource) key() string {
	if r.Key == "" {
		return DefaultKey
	}
	return r.Key
}

// regional reports whether host has no custom subdomain.
func (r *Resource) regional(host string) bool {
	return r.Regional || strings.HasSuffix(hostname(host), ".api.cognitive.microsoft.com")
}

// audiences are what a token for this host and path must be for.
func (r *Resource) audiences(host, path string) []string {
	if r.Audiences != nil {
		return r.Audiences
	}
	cognitive := "https://cognitiveservices.azure." + topLevel(host)
	const ai = "https://ai.azure.com"
	either := []string{cognitive + "/", ai + "/"}
	switch {
	case strings.HasPrefix(path, "/api/projects/"):
		return []string{ai}
	case strings.HasPrefix(path, "/anthropic/"):
		switch r.AnthropicAudience {
		case "cognitiveservices":
			return []string{cognitive}
		case "ai":
			return []string{ai}
		}
		return either
	case strings.HasPrefix(path, "/models/"), strings.HasPrefix(path, "/openai/v1/"), strings.HasPrefix(path, "/providers/"):
		return either
	}
	return []string{cognitive}
}

// topLevel tells the sovereign clouds from the public one by the host.
func topLevel(host string) string {
	for _, tld := range []string{"us", "cn"} {
		if strings.HasSuffix(hostname(host), ".azure."+tld) {
			return tld
		}
	}
	return "com"
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}
