package azure

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The bodies below are what Azure has been seen to send. White space is real:
// several come from templates of the gateway, and clients match on them.
const (
	bodyBadKey              = `{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."}}`
	bodyAudience            = `{ "statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (%s), or have expired." }`
	bodyMissingSubscription = `{ "statusCode": 401, "message": "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API." }`
	bodyBadSubscription     = `{ "statusCode": 401, "message": "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription." }`
	bodyPermissionShort     = `{"error":{"code":"PermissionDenied","message": "Principal does not have access to API/Operation."}}`
	bodyPermission          = "{\"error\":{\"code\":\"PermissionDenied\",\"message\":\"The principal `%s` lacks the required data action `Microsoft.CognitiveServices/accounts/%s` to perform `%s %s` operation.%s\"}}"
	bodyTenant              = `{"error":{"code":"Tenant provided in token does not match resource token","message":"Token tenant %s does not match resource tenant."}}`
	bodyKeysDisabled        = `{"error":{"code":"AuthenticationTypeDisabled","message": "Key based authentication is disabled for this resource."}}`
	bodyFirewall            = `{"error":{"code":"403","message": "Access denied due to Virtual Network/Firewall rules."}}`
	bodyPublicAccess        = `{"error":{"code":"403","message": "Public access is disabled. Please configure private endpoint."}}`
	bodyNotApproved         = `{"error":{"code":"403","message": "Request is not from an approved private endpoint."}}`
	bodyVNetHost            = `{"code":"403","message":"A Virtual Network is configured for this resource. Please use the correct endpoint for making requests. Check https://aka.ms/cogsvc-vnet for more details."}`
	bodySubdomain           = `{"error":{"code":"BadRequest","message":"Please provide a custom subdomain for token authentication, otherwise API key is required."}}`
	bodyNoDeployment        = `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."}}`
	bodyNotFound            = `{"error":{"code":"404","message": "Resource not found"}}`
	bodyUnknownSubdomain    = `{"error":{"code":"ResourceNotFound","message":"Subdomain does not map to a resource."}}`
	bodyAPIVersion          = `{"error":{"code":"BadRequest","message":"api-version query parameter is not allowed when using /v1 path"}}`
	bodyContentFilter       = `{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry. To learn more about our content filtering policies please read our documentation: https://go.microsoft.com/fwlink/?linkid=2198766","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}`
	bodyTimeout             = `{"error":{"code":"Timeout","message":"The operation was timeout."}}`
	bodyInternal            = `{ "statusCode": 500, "message": "Internal server error", "activityId": "%s" }`
	bodyUnavailable         = `{"error":{"code":"ServiceUnavailable","message":"The service is temporarily unable to process your request. Please try again later."}}`
	bodyTokenRate           = `{"error":{"code":"429","message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version %s have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after %d seconds. Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."}}`
	bodyCallRate            = `{"error":{"code":"429","message": "Rate limit is exceeded. Try again in %d seconds."}}`
	bodyCapacity            = `{"error":{"code":"429","message": "The system is currently experiencing high demand and cannot process your request. Your request exceeds the maximum usage size allowed during peak load. For improved capacity reliability, consider switching to Provisioned Throughput."}}`
)

func refuse(status int, body string) *Answer {
	return &Answer{Status: status, Header: map[string]string{"Content-Type": "application/json"}, Body: body}
}

// refuseAudience names the audiences that would do, the way Azure lists two.
func refuseAudience(audiences []string) *Answer {
	return refuse(http.StatusUnauthorized, fmt.Sprintf(bodyAudience, strings.Join(audiences, " or ")))
}

// refusePermission tells principal that it lacks the action of op. Foundry
// projects add where to read on.
func refusePermission(principal string, op *operation) *Answer {
	hint := ""
	if strings.HasPrefix(op.action, "AIServices/") {
		hint = " For instructions on granting the necessary permissions, see https://aka.ms/FoundryPermissions."
	}
	return refuse(http.StatusUnauthorized, fmt.Sprintf(bodyPermission, principal, op.action, op.method, op.template, hint))
}

// challenge is the refusal of continuous access evaluation. Azure OpenAI is
// not known to send it; the claims ask for a token younger than now.
func challenge(audiences []string) *Answer {
	answer := refuseAudience(audiences)
	claims := fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, time.Now().Unix())
	answer.Header["WWW-Authenticate"] = `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", ` +
		`error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(claims)) + `"`
	return answer
}

// throttle is a 429. The headers are those of a deployment at its limit; a
// policy of "" is a lack of capacity, which is nobody's quota.
func throttle(policy, body string, retryAfter int) *Answer {
	answer := refuse(http.StatusTooManyRequests, body)
	if retryAfter > 0 {
		answer.Header["Retry-After"] = strconv.Itoa(retryAfter)
		answer.Header["retry-after-ms"] = strconv.Itoa(retryAfter * 1000)
	}
	if policy != "" {
		answer.Header["policy-id"] = policy
		answer.Header["x-ratelimit-limit-tokens"] = "1000000"
		answer.Header["x-ratelimit-limit-requests"] = "10000"
		answer.Header["x-ratelimit-remaining-tokens"] = "0"
		answer.Header["x-ratelimit-remaining-requests"] = "0"
	}
	return answer
}
