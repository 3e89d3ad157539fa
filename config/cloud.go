package config

import (
	"net/url"
	"regexp"
	"strings"
)

// byHost is the origin of what follows from an upstream's host.
const byHost = "by the upstream's host"

// DefaultScope returns what tokens for an upstream are for, as far as its host
// tells: Azure OpenAI in the public, Government or China cloud. A Foundry
// project (a path /api/projects/NAME) takes tokens of its own; requests for it
// through a route without that path need the scope written out.
func DefaultScope(upstream *url.URL) string {
	switch host := strings.ToLower(upstream.Hostname()); cloudOf(host) {
	case "government":
		return "https://cognitiveservices.azure.us/.default"
	case "china":
		return "https://cognitiveservices.azure.cn/.default"
	default:
		if strings.HasSuffix(host, ".services.ai.azure.com") && strings.HasPrefix(upstream.Path, "/api/projects/") {
			return "https://ai.azure.com/.default"
		}
		return "https://cognitiveservices.azure.com/.default"
	}
}

// cloudOf returns the cloud, as [Identity].Authority names it, that a host is
// in; empty if its name does not tell: a front's own domain, or loopback.
func cloudOf(host string) string {
	switch {
	case strings.HasSuffix(host, ".azure.us"):
		return "government"
	case strings.HasSuffix(host, ".azure.cn"):
		return "china"
	case isResource(host):
		return "public"
	}
	return ""
}

var resource = regexp.MustCompile(`\.(openai|cognitiveservices|services\.ai)\.azure\.(com|us|cn)$`)

// isResource reports whether a host is that of an Azure resource itself, rather
// than of something in front of it.
func isResource(host string) bool { return resource.MatchString(host) }
