package config

import (
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"

	"golang.org/x/net/http/httpproxy"
)

// credentialKinds are the values of Identity.Credential and what each takes.
var credentialKinds = map[string]struct{ required, optional []string }{
	"default":             {nil, []string{"tenant_id", "authority"}},
	"environment":         {nil, []string{"authority"}},
	"workload-identity":   {nil, []string{"tenant_id", "client_id", "token_file", "authority"}},
	"managed-identity":    {nil, []string{"client_id"}},
	"client-secret":       {[]string{"tenant_id", "client_id", "client_secret"}, []string{"authority"}},
	"client-certificate":  {[]string{"tenant_id", "client_id", "certificate_file"}, []string{"certificate_password", "authority"}},
	"azure-cli":           {nil, []string{"tenant_id"}},
	"azure-developer-cli": {nil, []string{"tenant_id"}},
}

func (l *loader) validateIdentities() {
	if l.config.Identities == nil {
		l.config.Identities = make(map[string]Identity)
	}
	used := l.resolveIdentities()
	for _, name := range slices.Sorted(maps.Keys(l.config.Identities)) {
		id := l.config.Identities[name]
		id.Name = name
		setting := "identities." + name
		l.validateIdentity(setting, id)
		if hosts := used[name]; len(hosts) == 0 {
			l.warn(setting, "no route uses it")
		} else if id.Authority == "" && takes(id.Credential, "authority") && l.sources.getenv("AZURE_AUTHORITY_HOST") == "" {
			id.Authority = l.authority(setting+".authority", hosts)
		}
		l.config.Identities[name] = id
	}
}

// resolveIdentities returns the hosts of the routes that use each identity.
func (l *loader) resolveIdentities() map[string][]string {
	used := make(map[string][]string)
	for i, r := range l.config.Routes {
		if _, ok := l.config.Identities[r.Identity]; !ok && r.Identity == "default" {
			l.config.Identities["default"] = Identity{Credential: "default"}
		} else if !ok {
			known := slices.AppendSeq([]string{"default"}, maps.Keys(l.config.Identities))
			slices.Sort(known)
			l.problem(l.routeSetting(i, "identity"), "%s is not one of identities%s", show(r.Identity), didYouMean(r.Identity, slices.Compact(known)))
		}
		host := ""
		if r.Upstream != nil {
			host = r.Upstream.Hostname()
		}
		used[r.Identity] = append(used[r.Identity], host)
	}
	return used
}

// authority returns the one of the cloud that the hosts are in.
func (l *loader) authority(setting string, hosts []string) string {
	found := ""
	for _, host := range hosts {
		switch cloud := cloudOf(host); {
		case found == "":
			found = cloud
		case cloud != "" && cloud != found:
			l.problem(setting, "its routes go to the %s and the %s cloud: define an identity for each", found, cloud)
			return ""
		}
	}
	if found == "" || found == "public" {
		return "" // azidentity's default
	}
	l.origins[setting] = byHost
	return found
}

func takes(credential, setting string) bool {
	kind := credentialKinds[credential]
	return slices.Contains(kind.required, setting) || slices.Contains(kind.optional, setting)
}

func (l *loader) validateIdentity(setting string, id Identity) {
	kind, ok := credentialKinds[id.Credential]
	if !ok {
		known := slices.Sorted(maps.Keys(credentialKinds))
		l.problem(setting+".credential", "%s is not a credential%s", show(id.Credential), didYouMean(id.Credential, known))
		return
	}
	given := func(key string) bool { return l.origins[setting+"."+key] != "" }
	for _, key := range kind.required {
		if !given(key) {
			l.origins[setting+"."+key] = l.origins[setting]
			l.problem(setting+"."+key, "is missing: the credential %s needs it", id.Credential)
		}
	}
	for f := range fields(reflect.TypeFor[Identity]()) {
		if key := f.Tag.Get("key"); key != "credential" && given(key) && !takes(id.Credential, key) {
			l.problem(setting+"."+key, "has no effect for the credential %s: remove it, or choose the credential that it belongs to", id.Credential)
		}
	}
	l.check(setting+".tenant_id", tenantProblem(id.TenantID))
	l.check(setting+".authority", authorityProblem(id.Authority))
	l.readable(setting+".certificate_file", id.CertificateFile)
	l.readable(setting+".token_file", id.TokenFile)
}

var tenant = regexp.MustCompile(`^[A-Za-z0-9.-]*$`)

func tenantProblem(id string) string {
	if !tenant.MatchString(id) {
		return "must be a tenant's id or one of its domains"
	}
	return ""
}

func authorityProblem(authority string) string {
	if slices.Contains([]string{"", "public", "government", "china"}, authority) {
		return ""
	}
	if u, err := url.Parse(authority); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "must be public, government, china or an https:// URL"
	}
	return ""
}

// validateEnvironment finds what makes azidentity fail in ways that are hard to
// read from its errors.
func (l *loader) validateEnvironment() {
	chain, managed := false, false
	for _, r := range l.config.Routes {
		kind := l.config.Identities[r.Identity].Credential
		chain = chain || kind == "default"
		managed = managed || kind == "managed-identity" || kind == "default"
	}
	if value, set := l.sources.LookupEnv("AZURE_TOKEN_CREDENTIALS"); chain && set && value == "" {
		l.problem("AZURE_TOKEN_CREDENTIALS", "is set but empty, which DefaultAzureCredential refuses: unset it, or write dev, prod or the name of a credential")
	}
	if value, set := l.sources.LookupEnv("AZURE_CLIENT_ID"); chain && set && value == "" {
		l.warn("AZURE_CLIENT_ID", "is set but empty, which DefaultAzureCredential takes for the id of a managed identity: unset it")
	}
	if managed && l.sources.getenv("IDENTITY_ENDPOINT") == "" && l.proxied(instanceMetadata) {
		l.warn("HTTP_PROXY", "captures requests for managed identity tokens too: add %s to NO_PROXY", instanceMetadata.Host)
	}
}

// instanceMetadata is where virtual machines and Kubernetes nodes get tokens.
var instanceMetadata = &url.URL{Scheme: "http", Host: "169.254.169.254"}

func (l *loader) proxied(u *url.URL) bool {
	c := httpproxy.Config{
		HTTPProxy:  l.sources.getenv("HTTP_PROXY", "http_proxy"),
		HTTPSProxy: l.sources.getenv("HTTPS_PROXY", "https_proxy"),
		NoProxy:    l.sources.getenv("NO_PROXY", "no_proxy"),
	}
	proxy, err := c.ProxyFunc()(u)
	return err == nil && proxy != nil
}
