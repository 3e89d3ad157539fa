package azure

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// aadstsRow is a failure by Entra's own number.
type aadstsRow struct {
	code   int
	status int
	oauth  string // RFC 6749's error
	text   string // with one %s
	// example fills the text when the failure is switched on, not caused.
	example string
}

// aadstsRows are the failures that a credential of this project can meet. The
// table is never changed.
var aadstsRows = []aadstsRow{
	{70021, 400, "invalid_request", "No matching federated identity record found for presented assertion. Assertion Subject: '%s'. Assertion Audience: 'api://AzureADTokenExchange'. https://learn.microsoft.com/entra/workload-id/workload-identity-federation", "system:serviceaccount:default:litellm"},
	{700211, 401, "invalid_client", "No matching federated identity record found for presented assertion issuer '%s'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation", "https://oidc.example/"},
	{700213, 401, "invalid_client", "No matching federated identity record found for presented assertion subject '%s'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation", "system:serviceaccount:default:litellm"},
	{7002121, 400, "invalid_request", "No matching federated identity record found for presented assertion audience '%s'. The audience must be 'api://AzureADTokenExchange'.", "https://kubernetes.default.svc"},
	{700024, 401, "invalid_client", "Client assertion is not within its valid time range. Expiry time of assertion: %s. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .", "2024-01-01T00:00:00.0000000Z"},
	{700016, 400, "unauthorized_client", "Application with identifier '%s' was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.", "22222222-2222-4222-8222-222222222222"},
	{7000215, 401, "invalid_client", "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", "22222222-2222-4222-8222-222222222222"},
	{7000222, 401, "invalid_client", "The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.", "22222222-2222-4222-8222-222222222222"},
	{700027, 401, "invalid_client", "The certificate with identifier used to sign the client assertion is not registered on application '%s'.", "22222222-2222-4222-8222-222222222222"},
	{90002, 400, "invalid_request", "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.", otherTenant},
	{500011, 400, "invalid_resource", "The resource principal named %s was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.", "https://example.invalid"},
	{50001, 400, "invalid_resource", "The application named %s was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.", "https://example.invalid"},
	{53003, 400, "invalid_grant", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.%s", ""},
	{50173, 400, "invalid_grant", "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The TokensValidFrom date (before which tokens are not valid) for this user is '%s'.", "2024-01-01T00:00:00.0000000Z"},
	{70003, 400, "unsupported_grant_type", "The app requested an unsupported grant type '%s'.", "password"},
	{70011, 400, "invalid_scope", "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope %s is not valid.", "cognitiveservices"},
	{50027, 401, "invalid_client", "JWT token is invalid or malformed.%s", ""},
}

func (row aadstsRow) fault() string { return fmt.Sprintf("aadsts-%d", row.code) }

// aadstsFault finds the row of a fault's name.
func aadstsFault(name string) (aadstsRow, bool) {
	for _, row := range aadstsRows {
		if row.fault() == name {
			return row, true
		}
	}
	return aadstsRow{}, false
}

// aadstsError refuses with the row of code, its text completed by detail.
func (c *identityCall) aadstsError(code int, detail string) *Answer {
	for _, row := range aadstsRows {
		if row.code == code {
			return c.aadsts(row, detail)
		}
	}
	panic(fmt.Sprint("no row for AADSTS", code))
}

// aadsts is Entra's error answer. The same identifiers stand in the text and in
// fields of their own.
func (c *identityCall) aadsts(row aadstsRow, detail string) *Answer {
	trace, correlation := newGUID(), newGUID()
	if sent := c.r.Header.Get("Client-Request-Id"); sent != "" {
		correlation = sent
	}
	now := time.Now().UTC().Format("2006-01-02 15:04:05Z")
	text := strings.Replace(row.text, "%s", detail, 1)
	return jsonAnswer(orElse(row.status, http.StatusBadRequest), object{
		"error": row.oauth,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			row.code, text, trace, correlation, now),
		"error_codes":    []int{row.code},
		"timestamp":      now,
		"trace_id":       trace,
		"correlation_id": correlation,
		"error_uri":      fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", row.code),
	})
}
