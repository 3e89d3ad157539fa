package azure

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	appServicePath = "/msi/token"
	imdsPath       = "/metadata/identity/oauth2/token"
	imdsAddress    = "169.254.169.254"
)

// TokenRequest is what the identity side received.
type TokenRequest struct {
	Time   time.Time   `json:"time"`
	Method string      `json:"method"`
	Host   string      `json:"host"`
	Target string      `json:"target"` // byte for byte
	Header http.Header `json:"header"`
	// Form holds the parameters of the query and the body. Secrets and
	// assertions are replaced by their SHA-256 in hex.
	Form   url.Values `json:"form"`
	Status int        `json:"status"`          // 0 if the connection was closed instead
	Issued string     `json:"issued,omitzero"` // uti of the token in the answer
}

// SecretSum is how a [TokenRequest] shows a client secret or an assertion.
func SecretSum(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// identityCall is one request to the identity side.
type identityCall struct {
	emulator *Emulator
	w        http.ResponseWriter
	r        *http.Request
	form     url.Values
	tokens   Tokens // how they are issued to this request
	issued   string // uti
}

// serveIdentity is the handler of the identity side, over both listeners.
func (e *Emulator) serveIdentity(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		e.connect(w, r)
		return
	}
	c := &identityCall{emulator: e, w: w, r: r, tokens: e.switches.get().Tokens}
	form := io.LimitReader(r.Body, 1<<20)
	r.Body = io.NopCloser(form)
	_ = r.ParseForm() // what does not parse is missing, and refused as such
	c.form = r.Form
	answer := c.answer(e.switches.entra(r))
	e.noteTokenRequest(c, answer.Status)
	if answer == closed {
		panic(http.ErrAbortHandler)
	}
	c.give(answer)
}

func (e *Emulator) noteTokenRequest(c *identityCall, status int) {
	form := url.Values{}
	for name, values := range c.form {
		form[name] = slices.Clone(values)
		if name == "client_secret" || name == "client_assertion" {
			form[name] = []string{SecretSum(values[0])}
		}
	}
	e.issued.append(func(int) TokenRequest {
		return TokenRequest{
			Time: time.Now(), Method: c.r.Method, Host: c.r.Host, Target: c.r.RequestURI,
			Header: c.r.Header.Clone(), Form: form, Status: status, Issued: c.issued,
		}
	})
}

func (c *identityCall) answer(rule Rule) *Answer {
	c.sleep(rule.HeadDelay)
	if rule.Answer != nil {
		return rule.Answer
	}
	if row, ok := aadstsFault(rule.Fault); ok {
		return c.aadsts(row, row.example)
	}
	fault := namedFaults[rule.Fault]
	if fault.entra != nil {
		return fault.entra(faultInput{rule: rule})
	}
	if fault.tokens != nil {
		fault.tokens(&c.tokens)
	}
	return c.route()
}

// route finds the endpoint. A request for a whole URL came through us as a
// proxy, which is how IMDS is reached at its fixed address.
func (c *identityCall) route() *Answer {
	if host := c.r.URL.Hostname(); host != "" && host != imdsAddress {
		return refuse(http.StatusForbidden, `{"error":"the emulator is a proxy to 169.254.169.254 and Azure's host names only"}`)
	}
	switch c.r.URL.Path {
	case appServicePath:
		return c.appService()
	case imdsPath:
		return c.imds()
	}
	return c.authority()
}

func (c *identityCall) sleep(s Seconds) {
	if s > 0 {
		select {
		case <-time.After(s.Duration()):
		case <-c.r.Context().Done():
		}
	}
}

func (c *identityCall) give(answer *Answer) {
	for name, value := range answer.Header {
		c.w.Header()[name] = []string{value}
	}
	c.w.WriteHeader(answer.Status)
	_, _ = io.WriteString(c.w, answer.Body)
}

// appService is the managed identity endpoint of App Service, Functions and
// Container Apps, in its version 2019-08-01.
func (c *identityCall) appService() *Answer {
	if c.r.Header.Get("X-Identity-Header") != c.emulator.header {
		return refuse(http.StatusUnauthorized, `{"statusCode":401,"message":"Invalid or missing X-IDENTITY-HEADER."}`)
	}
	resource := c.form.Get("resource")
	if c.form.Get("api-version") != "2019-08-01" || resource == "" {
		return refuse(http.StatusBadRequest, `{"statusCode":400,"message":"The parameters api-version=2019-08-01 and resource are required."}`)
	}
	p, ok := c.emulator.principal(c.form.Get("client_id"))
	if !ok {
		return refuse(http.StatusBadRequest, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."}`)
	}
	return c.managed(p, resource)
}

// imds is the instance metadata service of virtual machines. Requests without
// the Metadata header are refused, and azidentity probes it with exactly that.
func (c *identityCall) imds() *Answer {
	if c.r.Header.Get("Metadata") != "true" {
		return refuse(http.StatusBadRequest, `{"error":"invalid_request","error_description":"Required metadata header not specified"}`)
	}
	resource := c.form.Get("resource")
	if resource == "" {
		return refuse(http.StatusBadRequest, `{"error":"invalid_request","error_description":"Required query variable 'resource' is missing"}`)
	}
	p, ok := c.emulator.principal(c.form.Get("client_id"))
	if !ok {
		return refuse(http.StatusBadRequest, `{"error":"invalid_request","error_description":"Identity not found"}`)
	}
	return c.managed(p, resource)
}

// managed is the answer of both managed identity endpoints, whose numbers are
// strings.
func (c *identityCall) managed(p Principal, resource string) *Answer {
	g, err := c.emulator.grantFor(p, resource, c.tokens)
	if err != nil {
		return refuse(http.StatusInternalServerError, `{"error":"server_error"}`)
	}
	c.issued = g.claims.ID
	answer := object{
		"access_token": g.token,
		"client_id":    p.ClientID,
		"expires_in":   strconv.Itoa(int(time.Until(g.expires).Seconds())),
		"expires_on":   strconv.FormatInt(g.expires.Unix(), 10),
		"not_before":   strconv.FormatInt(g.claims.IssuedAt.Unix(), 10),
		"resource":     resource,
		"token_type":   "Bearer",
	}
	if in := c.tokens.RefreshIn; in > 0 {
		answer["refresh_in"] = strconv.Itoa(int(in))
	}
	return jsonAnswer(http.StatusOK, answer)
}

func jsonAnswer(status int, v any) *Answer {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own types are sent
	}
	return &Answer{Status: status, Header: map[string]string{"Content-Type": "application/json; charset=utf-8"}, Body: string(body)}
}

// connect tunnels to this emulator, whatever of the emulated names the client
// asked for: with HTTPS_PROXY set to [Emulator.IdentityURL], an unmodified
// program reaches https://NAME.openai.azure.com here.
func (e *Emulator) connect(w http.ResponseWriter, r *http.Request) {
	target := e.azure
	if strings.HasPrefix(r.URL.Hostname(), "login.") {
		target = e.authority
	}
	if !emulated(r.URL.Hostname()) {
		http.Error(w, "the emulator is a proxy to Azure's host names only", http.StatusForbidden)
		return
	}
	upstream, err := net.Dial("tcp", target.address)
	if err != nil {
		http.Error(w, "the emulated host is down", http.StatusBadGateway)
		return
	}
	defer upstream.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(upstream, buffered); _ = upstream.Close() })
	_, _ = io.Copy(client, upstream)
	_ = client.Close()
	both.Wait()
}

// emulated reports whether the certificate covers host.
func emulated(host string) bool {
	_, domain, _ := strings.Cut(host, ".")
	return slices.Contains(emulatedNames, host) || slices.Contains(emulatedNames, "*."+domain)
}
