package azure

import (
	"fmt"
	"math"
	"net/http"
)

// namedFault is one entry of the list that [FaultNames] shows. What is nil does
// not exist on that side.
type namedFault struct {
	condition func(*Resource)          // the resource is in this state; the ordinary checks refuse
	tokens    func(*Tokens)            // tokens are issued in this way
	azure     func(faultInput) *Answer // Azure answers this
	entra     func(faultInput) *Answer // Entra answers this
	anonymous bool                     // Azure answers before it looks at credentials
}

// faultInput is what the text of a canned answer may depend on.
type faultInput struct {
	rule      Rule
	audiences []string
	version   string // the request's api-version
}

// retryAfter is the rule's wait in whole seconds; 0 means none is told.
func (in faultInput) retryAfter() int {
	if in.rule.RetryAfter < 0 {
		return 0
	}
	return max(1, int(math.Ceil(float64(in.rule.RetryAfter))))
}

// canned makes the source of an answer that never varies.
func canned(status int, body string) func(faultInput) *Answer {
	return func(faultInput) *Answer { return refuse(status, body) }
}

// MalformedToken is the token inside the answer of the identity side's fault
// "malformed", for tests that look for it where no token may be.
const MalformedToken = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"

// closed is the answer of a server that hangs up instead of answering.
var closed = &Answer{}

// namedFaults are the rows of the diagnosis table, under its cause ids, and
// the plain failures of a server. It is never changed.
var namedFaults = map[string]namedFault{
	"wrong-audience":                {condition: func(r *Resource) { r.Audiences = []string{"https://ai.azure.com"} }},
	"token-expired":                 {tokens: func(t *Tokens) { t.Expired = true }},
	"token-rejected":                {azure: func(in faultInput) *Answer { return refuseAudience(in.audiences) }, anonymous: true},
	"missing-role":                  {condition: func(r *Resource) { r.Roles = []string{"Owner"} }},
	"role-not-effective":            {condition: func(r *Resource) { r.RolesPending = true }},
	"key-reached-azure":             {azure: canned(http.StatusUnauthorized, bodyBadKey), anonymous: true},
	"key-auth-disabled":             {azure: canned(http.StatusForbidden, bodyKeysDisabled), anonymous: true},
	"apim-key-required":             {condition: func(r *Resource) { r.SubscriptionKey = "emulated-subscription-key" }},
	"wrong-tenant":                  {condition: func(r *Resource) { r.TenantID = otherTenant }},
	"custom-subdomain-required":     {condition: func(r *Resource) { r.Regional = true }},
	"firewall":                      {condition: func(r *Resource) { r.Network = Firewall }},
	"public-access-disabled":        {condition: func(r *Resource) { r.Network = PublicAccessOff }},
	"private-endpoint-not-approved": {condition: func(r *Resource) { r.Network = EndpointNotApproved }},
	"vnet-wrong-host":               {condition: func(r *Resource) { r.Network = VNetWrongHost }},
	"deployment-not-found":          {azure: canned(http.StatusNotFound, bodyNoDeployment)},
	"wrong-path":                    {azure: canned(http.StatusNotFound, bodyNotFound)},
	"api-version-not-allowed":       {azure: canned(http.StatusBadRequest, bodyAPIVersion)},
	"subdomain-unknown":             {azure: canned(http.StatusNotFound, bodyUnknownSubdomain), anonymous: true},
	"content-filter":                {azure: canned(http.StatusBadRequest, bodyContentFilter)},
	"rate-limited-tokens": {azure: func(in faultInput) *Answer {
		body := fmt.Sprintf(bodyTokenRate, orElse(in.version, "v1"), max(1, in.retryAfter()))
		return throttle("DeploymentRatelimit-Token", body, in.retryAfter())
	}},
	"rate-limited-requests": {azure: func(in faultInput) *Answer {
		return throttle("DeploymentRatelimit-Call", fmt.Sprintf(bodyCallRate, max(1, in.retryAfter())), in.retryAfter())
	}},
	"rate-limited-capacity": {azure: func(in faultInput) *Answer { return throttle("", bodyCapacity, in.retryAfter()) }},
	"insufficient-claims":   {azure: func(in faultInput) *Answer { return challenge(in.audiences) }, anonymous: true},
	"credential-unavailable": {entra: func(faultInput) *Answer {
		return refuse(http.StatusBadRequest, `{"error":"invalid_request","error_description":"Identity not found"}`)
	}},

	"timeout": {azure: canned(http.StatusRequestTimeout, bodyTimeout)},
	"internal-error": {
		azure: func(faultInput) *Answer {
			return refuse(http.StatusInternalServerError, fmt.Sprintf(bodyInternal, newGUID()))
		},
		entra:     canned(http.StatusInternalServerError, `{"error":"server_error","error_description":"The server encountered an unexpected error."}`),
		anonymous: true,
	},
	"unavailable": {
		azure:     canned(http.StatusServiceUnavailable, bodyUnavailable),
		entra:     canned(http.StatusServiceUnavailable, `{"error":"temporarily_unavailable","error_description":"The server is temporarily too busy to handle the request."}`),
		anonymous: true,
	},
	"throttled": {
		azure: func(in faultInput) *Answer {
			return throttle("DeploymentRatelimit-Call", fmt.Sprintf(bodyCallRate, max(1, in.retryAfter())), in.retryAfter())
		},
		entra: func(in faultInput) *Answer {
			return throttle("", `{"error":"too_many_requests","error_description":"Too many requests"}`, in.retryAfter())
		},
	},
	"empty":     {azure: canned(http.StatusOK, ""), entra: canned(http.StatusOK, "")},
	"malformed": {azure: canned(http.StatusOK, `{"id":"chatcmpl-`), entra: canned(http.StatusOK, `{"access_token":"`+MalformedToken+`","expires_`)},
	"closed": {
		azure:     func(faultInput) *Answer { return closed },
		entra:     func(faultInput) *Answer { return closed },
		anonymous: true,
	},
}

// otherTenant is a tenant that none of the emulator's principals belongs to.
const otherTenant = "99999999-9999-4999-8999-999999999999"
