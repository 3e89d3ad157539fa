package azure

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"
)

var forCognitive = policy.TokenRequestOptions{Scopes: []string{cognitive + "/.default"}, EnableCAE: true}

// throughTLS lets azidentity trust the emulator, in process, without retries.
func throughTLS(t *testing.T, e *Emulator) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: e.AuthorityURL},
		Transport: client(t, e),
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
}

func serviceAccountToken(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func goodAssertion() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "https://oidc.example/cluster", "sub": "system:serviceaccount:default:litellm",
		"aud": []string{"api://AzureADTokenExchange"}, "exp": time.Now().Add(time.Hour).Unix(),
	}
}

func TestRealCredentialsGetTokensThatOpenTheResource(t *testing.T) {
	t.Parallel()
	certificate, key := selfSigned(t)
	p := DefaultPrincipal()
	p.Certificate, p.Issuer, p.Subject = certificate, "https://oidc.example/cluster", "system:serviceaccount:default:litellm"
	e := start(t, Options{Principals: []Principal{p}})
	options := throughTLS(t, e)
	tokenFile := filepath.Join(t.TempDir(), "token")
	federated, err := e.FederatedToken(p, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokenFile, []byte(federated), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() (azcore.TokenCredential, error){
		"a client secret": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(p.TenantID, p.ClientID, p.ClientSecret,
				&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		},
		"a client secret at the pretended ADFS": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(adfs, p.ClientID, p.ClientSecret,
				&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
		},
		"a certificate": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientCertificateCredential(p.TenantID, p.ClientID, []*x509.Certificate{certificate}, key,
				&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		},
		"a federated token": func() (azcore.TokenCredential, error) {
			return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
				ClientOptions: options, DisableInstanceDiscovery: true, TenantID: p.TenantID, ClientID: p.ClientID, TokenFilePath: tokenFile,
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			cred, err := make()
			if err != nil {
				t.Fatal(err)
			}
			got, err := cred.GetToken(t.Context(), forCognitive)
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(got.ExpiresOn); left < 59*time.Minute || left > time.Hour {
				t.Errorf("expires in %v", left)
			}
			if a := do(t, client(t, e), request(t, "POST", e.URL+chatPath, got.Token, hello)); a.StatusCode != http.StatusOK {
				t.Errorf("answer %d %s", a.StatusCode, a.body)
			}
		})
	}
}

func selfSigned(t *testing.T) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template("client"), template("client"), key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func TestEntraRefusesWhatItShould(t *testing.T) {
	t.Parallel()
	certificate, _ := selfSigned(t)
	p := DefaultPrincipal()
	p.Certificate, p.Issuer, p.Subject = certificate, "https://oidc.example/cluster", "system:serviceaccount:default:litellm"
	e := start(t, Options{Principals: []Principal{p}})
	assertion := func(change string, value any) string {
		claims := goodAssertion()
		claims[change] = value
		return serviceAccountToken(t, claims)
	}
	for name, tc := range map[string]struct {
		tenant string
		change url.Values // over a good client secret request
		want   string
	}{
		"nothing":                    {want: ""},
		"a wrong secret":             {change: url.Values{"client_secret": {"the secret's id"}}, want: "AADSTS7000215"},
		"no secret":                  {change: url.Values{"client_secret": {}}, want: "AADSTS7000215"},
		"an unknown client":          {change: url.Values{"client_id": {otherTenant}}, want: "AADSTS700016"},
		"no client":                  {change: url.Values{"client_id": {}}, want: "AADSTS700016"},
		"an unknown tenant":          {tenant: otherTenant, want: "AADSTS90002"},
		"a tenant that is not its":   {tenant: "common", want: "AADSTS700016"},
		"an unknown resource":        {change: url.Values{"scope": {"https://nowhere.example/.default"}}, want: "AADSTS500011"},
		"a scope without .default":   {change: url.Values{"scope": {cognitive}}, want: "AADSTS70011"},
		"another grant":              {change: url.Values{"grant_type": {"password"}}, want: "AADSTS70003"},
		"a good assertion":           {change: asserted(serviceAccountToken(t, goodAssertion())), want: ""},
		"an assertion of no type":    {change: url.Values{"client_assertion": {assertion("sub", "x")}}, want: "AADSTS50027"},
		"an assertion that is none":  {change: asserted("sidecar"), want: "AADSTS50027"},
		"an assertion for others":    {change: asserted(assertion("aud", "https://kubernetes.default.svc")), want: "AADSTS7002121"},
		"an assertion that expired":  {change: asserted(assertion("exp", time.Now().Add(-time.Minute).Unix())), want: "AADSTS700024"},
		"an assertion without end":   {change: asserted(assertion("exp", nil)), want: "AADSTS700024"},
		"another cluster":            {change: asserted(assertion("iss", "https://oidc.example/other")), want: "AADSTS700211"},
		"another service account":    {change: asserted(assertion("sub", "system:serviceaccount:default:other")), want: "AADSTS700213"},
		"a foreign certificate's":    {change: asserted(assertion("iss", p.ClientID)), want: "AADSTS700027"},
		"OpenID's scopes beside one": {change: url.Values{"scope": {cognitive + "/.default openid offline_access profile"}}, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			form := url.Values{
				"grant_type": {"client_credentials"}, "client_id": {p.ClientID}, "client_secret": {p.ClientSecret},
				"scope": {cognitive + "/.default"},
			}
			for name, values := range tc.change {
				form[name] = values
			}
			r := request(t, "POST", e.IdentityURL+"/"+orElse(tc.tenant, p.TenantID)+"/oauth2/v2.0/token", "", form.Encode())
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			a := do(t, http.DefaultClient, r)
			switch {
			case tc.want == "" && (a.StatusCode != http.StatusOK || !strings.Contains(a.body, `"access_token"`)):
				t.Errorf("refused: %s", a.body)
			case tc.want != "" && !strings.Contains(a.body, tc.want+": "):
				t.Errorf("want %s, got %d %s", tc.want, a.StatusCode, a.body)
			}
		})
	}
}

func asserted(assertion string) url.Values {
	return url.Values{"client_secret": {}, "client_assertion": {assertion}, "client_assertion_type": {assertionType}}
}

func TestAzidentityTellsTheFailureByItsNumber(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	p := DefaultPrincipal()
	cred, err := azidentity.NewClientSecretCredential(p.TenantID, p.ClientID, "wrong",
		&azidentity.ClientSecretCredentialOptions{ClientOptions: throughTLS(t, e), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = cred.GetToken(t.Context(), forCognitive)
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || failed.RawResponse.StatusCode != http.StatusUnauthorized || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("%v", err)
	}
}

func TestManagedIdentityEndpointsRefuseWhatTheyShould(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	resource := "&resource=" + url.QueryEscape(cognitive)
	for name, tc := range map[string]struct {
		target, header string
		status         int
		part           string
	}{
		"App Service":                          {appServicePath + "?api-version=2019-08-01" + resource, "X-IDENTITY-HEADER: emulated", 200, `"token_type":"Bearer"`},
		"App Service, without its header":      {appServicePath + "?api-version=2019-08-01" + resource, "", 401, "X-IDENTITY-HEADER"},
		"App Service, with a wrong header":     {appServicePath + "?api-version=2019-08-01" + resource, "X-IDENTITY-HEADER: no", 401, "X-IDENTITY-HEADER"},
		"App Service, without a resource":      {appServicePath + "?api-version=2019-08-01", "X-IDENTITY-HEADER: emulated", 400, "resource"},
		"App Service, of an earlier version":   {appServicePath + "?api-version=2017-09-01" + resource, "X-IDENTITY-HEADER: emulated", 400, "api-version"},
		"App Service, for the known client":    {appServicePath + "?api-version=2019-08-01&client_id=" + DefaultPrincipal().ClientID + resource, "X-IDENTITY-HEADER: emulated", 200, DefaultPrincipal().ClientID},
		"App Service, for an unknown client":   {appServicePath + "?api-version=2019-08-01&client_id=" + otherTenant + resource, "X-IDENTITY-HEADER: emulated", 400, "No User Assigned"},
		"IMDS":                                 {imdsPath + "?api-version=2018-02-01" + resource, "Metadata: true", 200, `"expires_on":"`},
		"IMDS, probed without the header":      {imdsPath + "?api-version=2018-02-01" + resource, "", 400, "Required metadata header not specified"},
		"IMDS, without a resource":             {imdsPath + "?api-version=2018-02-01", "Metadata: true", 400, "resource"},
		"IMDS, for an unknown client":          {imdsPath + "?client_id=" + otherTenant + resource, "Metadata: true", 400, "Identity not found"},
		"an endpoint that the tenant has not":  {"/" + DefaultPrincipal().TenantID + "/oauth2/v2.0/authorize", "", 404, "not_found"},
		"instance discovery":                   {"/common/discovery/instance?authorization_endpoint=https://login.example/t/oauth2/v2.0/authorize", "", 200, "https://login.example/t/v2.0/.well-known/openid-configuration"},
		"instance discovery, of nothing":       {"/common/discovery/instance", "", 400, "AADSTS90002"},
		"the keys":                             {"/common/discovery/v2.0/keys", "", 200, `"kty":"RSA"`},
		"the configuration of ADFS":            {"/adfs/.well-known/openid-configuration", "", 200, "/adfs/oauth2/token"},
		"the configuration of a tenant":        {"/" + DefaultPrincipal().TenantID + "/v2.0/.well-known/openid-configuration", "", 200, "/oauth2/v2.0/token"},
		"the configuration of another tenant":  {"/" + otherTenant + "/v2.0/.well-known/openid-configuration", "", 400, "AADSTS90002"},
		"the root, which belongs to no tenant": {"/", "", 400, "AADSTS90002"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "GET", e.IdentityURL+tc.target, "", "")
			if name, value, ok := strings.Cut(tc.header, ": "); ok {
				r.Header.Set(name, value)
			}
			if a := do(t, http.DefaultClient, r); a.StatusCode != tc.status || !strings.Contains(a.body, tc.part) {
				t.Errorf("answer %d %s", a.StatusCode, a.body)
			}
		})
	}
}

func TestIMDSIsReachedThroughTheProxy(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	proxied := proxyClient(t, e)
	r := request(t, "GET", "http://169.254.169.254"+imdsPath+"?api-version=2018-02-01&resource="+cognitive, "", "")
	r.Header.Set("Metadata", "true")
	if a := do(t, proxied, r); a.StatusCode != http.StatusOK {
		t.Errorf("answer %d %s", a.StatusCode, a.body)
	}
	if got := e.TokenRequests()[0]; got.Host != "169.254.169.254" || !strings.HasPrefix(got.Target, "http://169.254.169.254/metadata/") {
		t.Errorf("noted %+v", got)
	}
	if a := do(t, proxied, request(t, "GET", "http://elsewhere.example/", "", "")); a.StatusCode != http.StatusForbidden {
		t.Errorf("for another host: %d", a.StatusCode)
	}
}

func TestRealHostNamesAreReachedThroughTheProxy(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	proxied := proxyClient(t, e)
	p := DefaultPrincipal()
	cred, err := azidentity.NewClientSecretCredential(p.TenantID, p.ClientID, p.ClientSecret, // instance discovery included
		&azidentity.ClientSecretCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: proxied}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := cred.GetToken(t.Context(), forCognitive)
	if err != nil {
		t.Fatal(err)
	}
	for host, status := range map[string]int{
		"my-resource.openai.azure.com":            200,
		"my-resource.services.ai.azure.com":       200,
		"westus.api.cognitive.microsoft.com":      400, // takes no token
		"my-resource.openai.azure.us":             401, // wants the audience of its own cloud
		"my-resource.cognitiveservices.azure.com": 200,
	} {
		if a := do(t, proxied, request(t, "POST", "https://"+host+chatPath, got.Token, hello)); a.StatusCode != status {
			t.Errorf("%s: %d %s", host, a.StatusCode, a.body)
		}
	}
	for _, r := range e.Requests() {
		if r.ServerName == "" || r.ServerName != r.Host {
			t.Errorf("SNI %q, host %q", r.ServerName, r.Host)
		}
	}
	if _, err := proxied.Do(request(t, "GET", "https://elsewhere.example/", "", "")); err == nil {
		t.Error("the proxy led elsewhere")
	}
	e.Set(func(f *Faults) { f.AzureDown = true })
	if _, err := proxied.Do(request(t, "GET", "https://my-resource.openai.azure.com/", "", "")); err == nil {
		t.Error("the proxy led to a resource that is down")
	}
}

func proxyClient(t *testing.T, e *Emulator) *http.Client {
	t.Helper()
	c := client(t, e)
	proxy, err := url.Parse(e.IdentityURL)
	if err != nil {
		t.Fatal(err)
	}
	c.Transport.(*http.Transport).Proxy = http.ProxyURL(proxy)
	return c
}

func TestTheClaimsOfAToken(t *testing.T) {
	t.Parallel()
	p := DefaultPrincipal()
	e := start(t, Options{Principals: []Principal{p, {TenantID: p.TenantID, ObjectID: "person", UPN: "ada@example.com"}}})
	claimsOf := func(p Principal) map[string]any {
		g, err := e.grantFor(p, cognitive, Tokens{Life: 60})
		if err != nil {
			t.Fatal(err)
		}
		var claims jwt.MapClaims
		parsed, _, err := jwt.NewParser().ParseUnverified(g.token, &claims)
		if err != nil || parsed.Header["alg"] != "RS256" || parsed.Header["kid"] == "" {
			t.Fatal(err, parsed.Header)
		}
		return claims
	}
	claims := claimsOf(p)
	for name, want := range map[string]any{
		"aud": cognitive, "iss": "https://sts.windows.net/" + p.TenantID + "/", "tid": p.TenantID, "oid": p.ObjectID,
		"sub": p.ObjectID, "appid": p.ClientID, "idtyp": "app", "ver": "1.0",
	} {
		if claims[name] != want {
			t.Errorf("%s: %v, want %v", name, claims[name], want)
		}
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 60 || claims["nbf"] != claims["iat"] {
		t.Errorf("life %v, claims %v", life, claims)
	}
	if again := claimsOf(p); again["uti"] == claims["uti"] || len(again["uti"].(string)) != 22 {
		t.Errorf("uti %v after %v", again["uti"], claims["uti"])
	}
	if person := claimsOf(e.principals[1]); person["upn"] != "ada@example.com" || person["idtyp"] != nil {
		t.Errorf("claims of a person: %v", person)
	}
}

func TestTheSameTokenIsIssuedAgainWhereAsked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tokens Tokens
		same   bool
	}{
		"a token for each request":     {Tokens{}, false},
		"one token, while it lives":    {Tokens{Reuse: true}, true},
		"one token, even a brief one":  {Tokens{Reuse: true, Life: 30}, true},
		"refresh_in changes no tokens": {Tokens{RefreshIn: 10}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, Options{Faults: Faults{Tokens: tc.tokens}})
			first, second := issued(t, e, cognitive), issued(t, e, cognitive)
			if (first == second) != tc.same {
				t.Errorf("the same: %t", first == second)
			}
			if issued(t, e, "https://ai.azure.com") == second {
				t.Error("one token for two resources")
			}
		})
	}
}

func TestAReusedTokenIsReplacedWhenATenthOfItsLifeIsLeft(t *testing.T) {
	t.Parallel()
	how := Tokens{Reuse: true, Life: 100}
	for left, reused := range map[time.Duration]bool{
		50 * time.Second: true, 11 * time.Second: true, 9 * time.Second: false, -time.Second: false,
	} {
		var r reusedTokens
		r.put("p", grant{expires: time.Now().Add(left)})
		if _, ok := r.get("p", how); ok != reused {
			t.Errorf("with %v left: reused %t", left, ok)
		}
	}
}

// issued asks the managed identity endpoint for a token.
func issued(t *testing.T, e *Emulator, resource string) string {
	t.Helper()
	var granted struct {
		Token string `json:"access_token"`
	}
	a := do(t, http.DefaultClient, appServiceRequest(t, e, resource))
	if err := json.Unmarshal([]byte(a.body), &granted); err != nil || granted.Token == "" {
		t.Fatalf("%v: %d %s", err, a.StatusCode, a.body)
	}
	return granted.Token
}

func TestTokenRequestsHideSecrets(t *testing.T) {
	t.Parallel()
	e := start(t, Options{})
	p := DefaultPrincipal()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {p.ClientID}, "client_secret": {p.ClientSecret}, "scope": {cognitive + "/.default"},
	}
	r := request(t, "POST", e.IdentityURL+"/"+p.TenantID+"/oauth2/v2.0/token", "", form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	do(t, http.DefaultClient, r)
	got := e.TokenRequests()[0]
	told, err := json.Marshal(got)
	if err != nil || strings.Contains(string(told), p.ClientSecret) {
		t.Errorf("%v: %s", err, told)
	}
	if got.Form.Get("client_secret") != SecretSum(p.ClientSecret) || got.Form.Get("client_id") != p.ClientID || got.Status != 200 || got.Issued == "" {
		t.Errorf("noted %+v", got)
	}
}

func TestASlowEntraWaits(t *testing.T) {
	t.Parallel()
	e := start(t, Options{Faults: Faults{Entra: []Rule{{Pace: Pace{HeadDelay: 5}}}}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := http.DefaultClient.Do(appServiceRequest(t, e, cognitive).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want a deadline", err)
	}
}
