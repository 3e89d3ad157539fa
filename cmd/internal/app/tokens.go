package app

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"entra-sidecar/config"
	"entra-sidecar/tokencache"
)

// tokens are the caches of the configuration: one for each (identity, scope)
// that a route names, so that routes share what they can.
type tokens struct {
	caches []*tokencache.Cache
	byKey  map[tokenKey]*tokencache.Cache
	logger *zap.Logger
}

type tokenKey struct{ identity, scope string }

func newTokens(c *config.Config, logger *zap.Logger) (*tokens, error) {
	t := &tokens{byKey: make(map[tokenKey]*tokencache.Cache), logger: logger}
	options := tokencache.CredentialOptions{Log: tokencache.ListenAzure(logger)}
	for _, r := range c.Routes {
		key := tokenKey{r.Identity, r.Scope}
		if t.byKey[key] != nil {
			continue
		}
		// A credential of its own: azidentity's hold a mutex over network I/O,
		// and caches that shared one would wait for each other.
		credential, err := tokencache.NewCredential(identity(c.Identities[r.Identity]), options)
		if err != nil {
			return nil, err // it names the identity
		}
		cache := tokencache.New(credential, tokencache.Options{
			Identity:          r.Identity,
			Scope:             r.Scope,
			Logger:            logger,
			FirstTokenTimeout: c.FirstTokenTimeout,
		})
		t.byKey[key] = cache
		t.caches = append(t.caches, cache)
	}
	return t, nil
}

// of returns the cache of a route.
func (t *tokens) of(r config.Route) *tokencache.Cache {
	return t.byKey[tokenKey{r.Identity, r.Scope}]
}

// start runs every cache until ctx ends.
func (t *tokens) start(ctx context.Context, running *sync.WaitGroup) {
	for _, cache := range t.caches {
		running.Go(func() {
			if err := cache.Run(ctx); err != nil && ctx.Err() == nil {
				t.logger.Error("the token cache has ended", zap.Error(err))
			}
		})
	}
}

func identity(i config.Identity) tokencache.Identity {
	return tokencache.Identity{
		Name:                i.Name,
		Credential:          i.Credential,
		TenantID:            i.TenantID,
		ClientID:            i.ClientID,
		ClientSecret:        i.ClientSecret.Reveal(),
		CertificateFile:     i.CertificateFile,
		CertificatePassword: i.CertificatePassword.Reveal(),
		TokenFile:           i.TokenFile,
		Authority:           i.Authority,
	}
}
