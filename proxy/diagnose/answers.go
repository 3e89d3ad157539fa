package diagnose

import (
	"slices"
	"strings"
)

// setGroup comes first in every remedy that manages the resource: its host names
// the resource but not the group, for which az asks always.
const setGroup = "GROUP=$(az cognitiveservices account list --query \"[?name=='{{NAME}}'].resourceGroup\" --output tsv)\n"

const setID = setGroup +
	"ID=$(az cognitiveservices account show --name {{NAME}} --resource-group \"$GROUP\" --query id --output tsv)\n"

// answers are the refusals of Azure. Rows with one signature stand together,
// the most particular first.
var answers = []Row{{
	Kind:     KindAnswer,
	Cause:    "wrong-audience",
	Status:   401,
	Phrases:  []string{"audience is incorrect"},
	when:     wrongAudience,
	Sentence: "The token is meant for another audience than this endpoint accepts; set the scope of the route to the audience that the endpoint names.",
	Remedy: "# The scope of the route (or --scope, or routes[].scope):\n" +
		"ENTRA_SIDECAR_SCOPE={{AUDIENCE}}/.default",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "token-expired",
	Status:   401,
	Phrases:  []string{"audience is incorrect"},
	when:     expired,
	Sentence: "The token had expired when it reached Azure; set the clock of this machine right, or find out why the token was not renewed.",
	Remedy: "date -u   # compare with Azure's clock: {{DATE}}\n" +
		"entra-sidecar check",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "token-rejected",
	Status:   401,
	Phrases:  []string{"audience is incorrect"},
	Sentence: "Azure rejected the token, and neither its audience nor its expiry tells why; check its tenant, and whether the identity was disabled or its sessions were revoked.",
	Remedy: "entra-sidecar check   # shows the token's aud, tid, oid and exp\n" +
		"az account show --query tenantId --output tsv   # in the subscription of {{NAME}}; the token is of tenant {{TENANT}}\n" +
		"az ad sp show --id {{CLIENT}} --query accountEnabled",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "missing-role",
	Status:   401,
	Code:     "PermissionDenied",
	Phrases:  []string{"lacks the required data action"},
	Sentence: "The identity lacks the role that this operation needs; assign it on the resource and wait up to 30 minutes.",
	Remedy: setID +
		"az role assignment create {{ASSIGNEE}} --role \"{{ROLE}}\" --scope \"$ID\"\n" +
		"# It takes effect within 5 to 30 minutes, without a restart. Owner and Contributor do not include it.",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "role-not-effective",
	Status:   401,
	Code:     "PermissionDenied",
	Phrases:  []string{"Principal does not have access"},
	Sentence: "The identity has no role in effect for this operation; compare its role assignments with the resource, and wait up to 30 minutes after assigning one.",
	Remedy: "az role assignment list --assignee {{OID}} --all --output table   # is \"{{ROLE}}\" there, on this resource?\n" +
		"# If it is, wait 5 to 30 minutes. If it is not:\n" +
		setID +
		"az role assignment create {{ASSIGNEE}} --role \"{{ROLE}}\" --scope \"$ID\"",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "key-reached-azure",
	Status:   401,
	Phrases:  []string{"invalid subscription key"},
	Sentence: "A key reached Azure and was refused, or the endpoint is a wrong one; remove the key from the route's headers or from what goes past the sidecar, and check the upstream's host.",
	Remedy: "# Is there a key among the route's headers? Behind API Management: is it the right one?\n" +
		"# Is {{HOST}} the resource's own host? Does LiteLLM's api_base name the sidecar?\n" +
		"entra-sidecar config\n" +
		"unset AZURE_API_KEY AZURE_OPENAI_API_KEY",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "apim-key-required",
	Status:   401,
	Phrases:  []string{"missing subscription key"},
	Sentence: "An API Management front asks for a subscription key of its own; add that key to the headers of the route.",
	Remedy: "# In the file, at the route to {{HOST}}:\n" +
		"#   headers: {Ocp-Apim-Subscription-Key: \"${APIM_KEY}\"}",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "wrong-tenant",
	Status:   400,
	Phrases:  []string{"Token tenant"},
	when:     func(e *evidence) bool { return e.says("does not match") },
	Sentence: "The token is of another tenant than the resource; set the tenant of the identity to that of the resource.",
	Remedy: "az account show --query tenantId --output tsv   # in the subscription of {{NAME}}; the token is of tenant {{TENANT}}\n" +
		"AZURE_TENANT_ID=TENANT   # or identities.<name>.tenant_id; a managed identity gets tokens of its own tenant only",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "custom-subdomain-required",
	Status:   400,
	Phrases:  []string{"custom subdomain for token"},
	Sentence: "A regional host takes keys only; use the resource's own host as upstream, after giving the resource a custom subdomain if it has none.",
	Remedy: "az cognitiveservices account list --query \"[].[name,properties.endpoint]\" --output table   # which is at {{HOST}}?\n" +
		setGroup +
		"az cognitiveservices account update --name {{NAME}} --resource-group \"$GROUP\" --custom-domain {{NAME}}\n" +
		"ENTRA_SIDECAR_UPSTREAM=https://{{NAME}}.openai.azure.com   # instead of {{HOST}}",
	Auth:  true,
	Class: ClassEndpoint,
}, {
	Kind:     KindAnswer,
	Cause:    "key-auth-disabled",
	Status:   403,
	Code:     "AuthenticationTypeDisabled",
	Sentence: "A key reached a resource that accepts none; remove the key from the route's headers or from what goes past the sidecar.",
	Remedy: "unset AZURE_API_KEY AZURE_OPENAI_API_KEY   # where LiteLLM runs; its api_base must name the sidecar\n" +
		"entra-sidecar config   # is there a key among the route's headers?",
	Auth:  true,
	Class: ClassAuthorization,
}, {
	Kind:     KindAnswer,
	Cause:    "firewall",
	Status:   403,
	Phrases:  []string{"Virtual Network/Firewall"},
	Sentence: "The resource's firewall does not admit this network; add a rule for it, or go through the resource's private endpoint.",
	Remedy: "# ADDRESS: the public address that requests leave by; for a subnet --vnet-name VNET --subnet SUBNET instead\n" +
		setGroup +
		"az cognitiveservices account network-rule add --name {{NAME}} --resource-group \"$GROUP\" --ip-address ADDRESS",
	Auth:  true,
	Class: ClassNetwork,
}, {
	Kind:     KindAnswer,
	Cause:    "public-access-disabled",
	Status:   403,
	Phrases:  []string{"Public access is disabled"},
	Sentence: "The resource admits its private endpoints only and was reached by its public address; make its host resolve to the private endpoint.",
	Remedy:   privateZone,
	Auth:     true,
	Class:    ClassNetwork,
}, {
	Kind:     KindAnswer,
	Cause:    "private-endpoint-not-approved",
	Status:   403,
	Phrases:  []string{"approved private endpoint"},
	Sentence: "The request did not come by an approved private endpoint of the resource; approve the endpoint's connection.",
	Remedy: setID +
		"az network private-endpoint-connection list --id \"$ID\" --output table\n" +
		"az network private-endpoint-connection approve --id CONNECTION_ID",
	Auth:  true,
	Class: ClassNetwork,
}, {
	Kind:     KindAnswer,
	Cause:    "vnet-wrong-host",
	Status:   403,
	Phrases:  []string{"cogsvc-vnet"},
	Sentence: "A resource with a virtual network answers on its own host only; use its custom subdomain as upstream.",
	Remedy: setGroup +
		"az cognitiveservices account show --name {{NAME}} --resource-group \"$GROUP\" --query properties.endpoints\n" +
		"ENTRA_SIDECAR_UPSTREAM=https://{{NAME}}.openai.azure.com   # instead of {{HOST}}",
	Auth:  true,
	Class: ClassEndpoint,
}, {
	Kind:     KindAnswer,
	Cause:    "deployment-not-found",
	Status:   404,
	Code:     "DeploymentNotFound",
	Sentence: "The resource has no deployment of that name; name a deployment rather than a model, and wait five minutes after creating one.",
	Remedy: "# Asked for: {{DEPLOYMENT}}. LiteLLM's model must be azure/ and one of these:\n" +
		setGroup +
		"az cognitiveservices account deployment list --name {{NAME}} --resource-group \"$GROUP\" --query \"[].name\" --output tsv",
	Auth:  true,
	Class: ClassEndpoint,
}, {
	Kind:     KindAnswer,
	Cause:    "wrong-path",
	Status:   404,
	Phrases:  []string{"Resource not found"},
	Sentence: "The resource knows no such path; look for a doubled /openai, a double slash, and a missing or old api-version.",
	Remedy: "# Asked for: {{URL}}\n" +
		"# {{PATHFAULT}}",
	Auth:  true,
	Class: ClassEndpoint,
}, {
	Kind:     KindAnswer,
	Cause:    "api-version-not-allowed",
	Status:   400,
	Phrases:  []string{"api-version query parameter is not allowed"},
	when:     func(e *evidence) bool { return e.says("/v1") },
	Sentence: "A v1 path takes no api-version; remove that query parameter.",
	Remedy: "# Asked for: {{URL}}\n" +
		"# LiteLLM: take api_version off the model, or off api_base; other clients: use no Azure-specific class for /v1",
	Auth:  true,
	Class: ClassEndpoint,
}, {
	Kind:     KindAnswer,
	Cause:    "subdomain-unknown",
	Status:   404,
	Phrases:  []string{"Subdomain does not map"},
	Sentence: "No resource answers to this subdomain; check its name and the family of hosts, and wait a few minutes if it is new.",
	Remedy: "# Asked for: {{HOST}}\n" +
		"az cognitiveservices account list --query \"[].[name,properties.endpoint]\" --output table",
	Auth:  true,
	Class: ClassEndpoint,
}, {
	Kind:     KindAnswer,
	Cause:    "rate-limited-capacity",
	Status:   429,
	Phrases:  []string{"currently experiencing high demand"},
	Sentence: "The capacity that the region shares is exhausted, not your quota; wait, or use another region or provisioned capacity.",
	Remedy: "# Wait {{SECONDS}} seconds. Raising the quota does not help; another region, or a provisioned deployment, does:\n" +
		setGroup +
		"az cognitiveservices account deployment show --name {{NAME}} --resource-group \"$GROUP\" --deployment-name {{DEPLOYMENT}} --query sku",
}, {
	Kind:     KindAnswer,
	Cause:    "rate-limited-tokens",
	Status:   429,
	Phrases:  []string{"token rate limit", "Token limit is exceeded", "Rate limit is exceeded"},
	when:     func(e *evidence) bool { return e.quota() == "token" },
	Sentence: "The deployment's tokens per minute are used up; wait as long as the answer says, or raise the deployment's capacity.",
	Remedy:   raiseCapacity,
}, {
	Kind:     KindAnswer,
	Cause:    "rate-limited-requests",
	Status:   429,
	Phrases:  []string{"call rate limit", "Rate limit is exceeded"},
	Sentence: "The deployment's requests per minute are used up; wait as long as the answer says, or raise the deployment's capacity.",
	Remedy:   raiseCapacity,
}, {
	Kind:     KindAnswer,
	Cause:    "content-filter",
	Status:   400,
	Code:     "content_filter",
	Sentence: "The content filter refused the prompt, which is no failure of authentication; change the prompt, or the filter of the deployment.",
	Remedy: setGroup +
		"az cognitiveservices account deployment show --name {{NAME}} --resource-group \"$GROUP\" --deployment-name {{DEPLOYMENT}} --query properties.raiPolicyName",
}}

const raiseCapacity = "# Wait {{SECONDS}} seconds, or create the deployment anew under its name with what this shows and a larger --sku-capacity:\n" +
	setGroup +
	"az cognitiveservices account deployment show --name {{NAME}} --resource-group \"$GROUP\" --deployment-name {{DEPLOYMENT}} --query \"[properties.model,sku]\"\n" +
	"az cognitiveservices account deployment create --name {{NAME}} --resource-group \"$GROUP\" --deployment-name {{DEPLOYMENT}} --model-format OpenAI --model-name MODEL --model-version VERSION --sku-name SKU --sku-capacity CAPACITY"

const privateZone = "getent hosts {{HOST}}   # must print a private address\n" +
	"az network private-dns link vnet create --resource-group GROUP --zone-name {{ZONE}} --name entra-sidecar --virtual-network VNET --registration-enabled false\n" +
	"NO_PROXY=$NO_PROXY,{{HOST}}   # if a proxy resolves the name"

// wrongAudience reports whether our token is for none of the audiences that
// the answer names. A token of the v2 endpoint carries an application's id
// instead of a URL, and an opaque one nothing: neither proves anything.
func wrongAudience(e *evidence) bool {
	ours := trimAudience(e.in.Claims.Audience)
	return strings.HasPrefix(ours, "https://") && len(e.audiences()) > 0 && !slices.Contains(e.audiences(), ours)
}

// expired judges by this machine's clock or by Azure's, whichever is ahead: the
// sidecar sends no token that it holds for expired, so where one did expire on
// the way its own clock is slow.
func expired(e *evidence) bool {
	expiry := e.in.Claims.ExpiresAt
	return !expiry.IsZero() && (!e.in.Now.Before(expiry) || !e.date().Before(expiry))
}

// audiences returns those that the answer names in parentheses: one, or several
// joined by "or", each with or without a slash at its end.
func (e *evidence) audiences() []string {
	_, list, _ := strings.Cut(e.message, "audience is incorrect (")
	list, _, _ = strings.Cut(list, ")")
	var found []string
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' }) {
		if strings.HasPrefix(word, "https://") && shellSafe(word) != "" {
			found = append(found, trimAudience(word))
		}
	}
	return found
}

func trimAudience(s string) string { return strings.ToLower(strings.TrimRight(s, "/")) }

// quota tells which allowance is used up. The message says so, or Azure's
// policy, or a counter at zero; the gateway's short message without any of them
// is that of a limit on calls.
func (e *evidence) quota() string {
	policy, left := e.in.Header.Get("Policy-Id"), e.in.Header.Get("X-Ratelimit-Remaining-Tokens")
	switch {
	case e.says("token rate limit", "Token limit is exceeded"):
		return "token"
	case strings.EqualFold(policy, "DeploymentRatelimit-Token"), policy == "" && left == "0":
		return "token"
	}
	return "call"
}
