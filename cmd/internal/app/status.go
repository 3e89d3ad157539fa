package app

import (
	"entra-sidecar/config"
	"entra-sidecar/proxy/admin"
	"entra-sidecar/proxy/diagnose"
	"entra-sidecar/tokencache"
)

// status is what the status page shows.
func (s *server) status() admin.Status {
	status := admin.Status{Version: thisBuild().version, Started: s.started, Draining: s.draining.Load()}
	for _, r := range s.config.Routes {
		status.Routes = append(status.Routes, admin.Route{
			Prefix: r.Prefix, Upstream: r.Upstream.String(), Identity: r.Identity, Scope: r.Scope,
		})
	}
	for _, cache := range s.tokens.caches {
		t := cache.Status()
		status.Identities = append(status.Identities, identityStatus(t, s.config.Identities[t.Identity]))
	}
	for _, f := range s.proxy.Failures() {
		status.Failures = append(status.Failures, admin.Failure(f))
	}
	return status
}

func identityStatus(t tokencache.Status, configured config.Identity) admin.Identity {
	i := admin.Identity{
		Name: t.Identity, Scope: t.Scope, Credential: configured.Credential, Source: t.Source,
		Ready: t.Usable(), RenewAt: t.RenewAt, FailingSince: t.FailingSince,
		Waits: t.Waits, Renewals: t.Renewals, Failures: t.Failures,
	}
	if t.Token != nil {
		claims := t.Token.Claims()
		i.ExpiresAt, i.IssuedAt = t.Token.ExpiresOn(), claims.IssuedAt
		i.TenantID, i.ClientID, i.ObjectID, i.Audience = claims.TenantID, claims.AppID, claims.ObjectID, claims.Audience
	}
	if t.Err != nil {
		explainFailure(&i, t.Err, configured)
	}
	return i
}

// explainFailure fills in why there is no new token, source by source.
func explainFailure(i *admin.Identity, err error, configured config.Identity) {
	for _, source := range tokencache.Explain(err) {
		i.Sources = append(i.Sources, admin.SourceFailure{Source: source.Source, Reason: source.Reason})
	}
	i.Error = tokencache.Describe(err)
	d := diagnose.Credential(i.Error, diagnose.Claims{TenantID: configured.TenantID, AppID: configured.ClientID})
	i.Cause, i.Remedy = d.Cause, d.Remedy
}
